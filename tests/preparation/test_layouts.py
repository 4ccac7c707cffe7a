"""Layouts of public data sets, in miniature."""

import json
from pathlib import Path

import pytest
from PIL import Image

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.preparation.checks import check_names
from guidino_cli.preparation.layouts import detect_layout
from guidino_cli.preparation.public_layouts import filter_normal_cases
from guidino_cli.preparation.types import read_split_list


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in {".png", ".jpg", ".tif", ".gif"}:
            Image.new("L", (4, 4)).save(path)
        else:
            path.write_text("")
    return root


def _parts(root: Path, layout: str = "auto") -> dict[str, str | None]:
    return {pair.id: pair.split for pair in detect_layout(root, layout).pairs}


def test_kvasir_is_detected_by_its_file_names(tmp_path: Path) -> None:
    name = "cju0qkwl35piu0993l0dewei2.jpg"
    result = detect_layout(_touch(tmp_path, f"images/{name}", f"masks/{name}"))
    assert (result.layout, result.class_names) == ("kvasir", ("background", "polyp"))


def test_lists_beside_the_folders_are_the_official_split(tmp_path: Path) -> None:
    _touch(tmp_path, *(f"{kind}/{stem}.png" for kind in ("images", "masks") for stem in "abcd"))
    (tmp_path / "train.txt").write_text("a\nimages/b.png masks/b.png\n")
    (tmp_path / "test.txt").write_text("c\n")
    result = detect_layout(tmp_path)
    assert {pair.id: pair.split for pair in result.pairs} == {"a": "train", "b": "train", "c": "test"}
    assert any("d" in note and "no split list" in note for note in result.notes)


def test_a_listed_case_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "train.txt").write_text("a\nmissing\n")
    with pytest.raises(DataError, match="name 1 image not there: missing"):
        detect_layout(tmp_path)


def test_a_case_in_two_lists_is_an_error(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.png", "masks/a.png")
    for part in ("train", "test"):
        (tmp_path / f"{part}.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"also in train\.txt"):
        detect_layout(tmp_path)


def test_names_with_spaces_survive_in_a_list(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("benign (1).png\nbenign (2)\n# remark\n\n")
    assert read_split_list(tmp_path / "train.txt") == ["benign (1)", "benign (2)"]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("ISBI2016_ISIC_Part1_{}_Data", "ISBI2016_ISIC_Part1_{}_GroundTruth"),
        ("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth"),
        ("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth"),
    ],
)
def test_isic_of_three_years_keeps_its_splits(tmp_path: Path, images: str, masks: str) -> None:
    for number, part in enumerate(("Training", "Test")):
        stem = f"ISIC_000000{number}"
        _touch(tmp_path, f"{images.format(part)}/{stem}.jpg", f"{masks.format(part)}/{stem}_segmentation.png")
    assert detect_layout(tmp_path).layout == "isic"
    assert _parts(tmp_path) == {"ISIC_0000000": "train", "ISIC_0000001": "test"}


def test_isic_superpixels_and_other_tasks_are_no_images(tmp_path: Path) -> None:
    _touch(
        tmp_path,
        "ISIC-2017_Training_Data/ISIC_0000000.jpg",
        "ISIC-2017_Training_Data/ISIC_0000000_superpixels.png",
        "ISIC-2017_Training_Part1_GroundTruth/ISIC_0000000_segmentation.png",
        "ISIC-2017_Training_Part2_GroundTruth/ISIC_0000000_features.json",
    )
    result = detect_layout(tmp_path)
    assert [pair.images[0].name for pair in result.pairs] == ["ISIC_0000000.jpg"]
    assert result.unmatched_images == []


def test_tn3k_ids_have_a_prefix_because_both_folders_count_from_zero(tmp_path: Path) -> None:
    names = [f"{part}-{kind}/0000.jpg" for part in ("trainval", "test") for kind in ("image", "mask")]
    assert _parts(_touch(tmp_path, *names)) == {"test_0000": "test", "trainval_0000": "train"}


def test_tn3k_folds_are_positions_in_the_sorted_list(tmp_path: Path) -> None:
    stems = ["0000", "0002", "0005", "0010", "0011"]
    _touch(tmp_path, *(f"trainval-{kind}/{stem}.jpg" for stem in stems for kind in ("image", "mask")))
    for fold in range(5):
        (tmp_path / f"tn3k-trainval-fold{fold}.json").write_text(json.dumps({"val": [fold]}))
    pairs = {pair.id: (pair.split, pair.fold) for pair in detect_layout(tmp_path).pairs}
    assert pairs["trainval_0000"] == ("val", 0)
    assert pairs["trainval_0010"] == ("train", 3)


def test_busi_merges_masks_and_keeps_the_kind_of_lesion(tmp_path: Path) -> None:
    _touch(tmp_path, "benign/benign (1).png", "benign/benign (1)_mask.png", "benign/benign (1)_mask_1.png")
    _touch(tmp_path, "malignant/malignant (1).png", "malignant/malignant (1)_mask.png")
    result = detect_layout(tmp_path)
    assert result.layout == "busi"
    assert {pair.id: (pair.stratum, pair.group, len(pair.masks)) for pair in result.pairs} == {
        "benign (1)": ("benign", "benign/benign (1)", 2),
        "malignant (1)": ("malignant", "malignant/malignant (1)", 1),
    }


def test_busi_normal_images_are_optional_and_noted(tmp_path: Path) -> None:
    for kind in ("benign", "malignant", "normal"):
        _touch(tmp_path, f"{kind}/{kind} (1).png", f"{kind}/{kind} (1)_mask.png")
    result = detect_layout(tmp_path)
    assert len(filter_normal_cases(result, include=True).pairs) == 3
    without = filter_normal_cases(result, include=False)
    assert len(without.pairs) == 2
    assert "normal images, 1: left out" in without.notes[-1]


def test_the_field_of_view_of_drive_is_no_label(tmp_path: Path) -> None:
    for part, number in (("training", 21), ("test", 1)):
        _touch(tmp_path, f"{part}/images/{number}_{part}.tif", f"{part}/1st_manual/{number}_manual1.gif")
        _touch(tmp_path, f"{part}/mask/{number}_{part}_mask.gif")
    result = detect_layout(tmp_path)
    assert result.layout == "drive"
    assert [pair.masks[0].parent.name for pair in result.pairs] == ["1st_manual", "1st_manual"]
    assert any("field of view" in note for note in result.notes)


def _nnunet(root: Path, **description: object) -> Path:
    _touch(root, "imagesTr/a_0000.png", "imagesTr/a_0001.png", "labelsTr/a.png", "imagesTs/b_0000.png")
    _touch(root, "imagesTs/b_0001.png", "labelsTs/b.png")
    content = {"labels": {"background": 0, "tumour": 1}, "file_ending": ".png", **description}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def test_nnunet_collects_channels_and_names(tmp_path: Path) -> None:
    result = detect_layout(_nnunet(tmp_path))
    assert result.class_names == ("background", "tumour")
    assert [(pair.id, len(pair.images), pair.split) for pair in result.pairs] == [("a", 2, "train"), ("b", 2, "test")]


def test_nnunet_version_one_labels_are_read(tmp_path: Path) -> None:
    assert detect_layout(_nnunet(tmp_path, labels={"0": "background", "1": "cup"})).class_names == ("background", "cup")


def test_nnunet_regions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="regions"):
        detect_layout(_nnunet(tmp_path, labels={"background": 0, "whole": [1, 2]}))


def test_an_nnunet_folder_of_volumes_is_one_of_volumes(tmp_path: Path) -> None:
    _touch(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}')
    dataset = detect_layout(tmp_path)
    assert (dataset.layout, dataset.is_volumes, dataset.channels) == ("nnunet", True, ("CT",))
    assert [pair.id for pair in dataset.pairs] == ["a"]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("{}/images", "{}/masks"),
        ("Images/{}", "Labels/{}"),
        ("{}_img", "{}_gt"),
        ("{}/JPEGImages", "{}/SegmentationClass"),
        ("data/{}/input", "data/{}/ground_truth"),
    ],
)
def test_split_and_kind_folders_may_be_nested_in_any_order(tmp_path: Path, images: str, masks: str) -> None:
    for part, stem in (("train", "a"), ("valid", "b"), ("Test", "c")):
        _touch(tmp_path, f"{images.format(part)}/{stem}.png", f"{masks.format(part)}/{stem}.png")
    assert _parts(tmp_path) == {"a": "train", "b": "val", "c": "test"}


def test_equal_names_in_two_splits_get_the_split_as_prefix(tmp_path: Path) -> None:
    for part in ("train", "test"):
        _touch(tmp_path, f"{part}/images/1.png", f"{part}/masks/1.png")
    assert _parts(tmp_path) == {"train_1": "train", "test_1": "test"}


def test_two_folders_of_masks_are_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.png", "masks/a.png", "labels/a.png")
    with pytest.raises(DataError, match="labels, masks all look like"):
        detect_layout(tmp_path)


def test_unused_folders_are_noted(tmp_path: Path) -> None:
    result = detect_layout(_touch(tmp_path, "images/a.png", "masks/a.png", "fov/a.png"))
    assert result.notes == ["fov/ is not used"]


def test_the_only_folder_inside_a_folder_of_images_is_looked_through(tmp_path: Path) -> None:
    _touch(tmp_path, "train/imgs/a.png", "train/masks/a.png")
    _touch(tmp_path, "test1/imgs/site/b.png", "test1/masks/b.png", "test2/imgs/site/c.png", "test2/masks/other/c.png")
    assert _parts(tmp_path) == {"a": "train", "b": "test", "c": "test"}


def test_numbered_test_folders_are_test_parts(tmp_path: Path) -> None:
    for part in ("train", "test1", "test2"):
        _touch(tmp_path, f"{part}/images/1.png", f"{part}/masks/1.png")
    assert _parts(tmp_path) == {"train_1": "train", "1_test_1": "test", "2_test_1": "test"}


def test_a_part_of_the_split_that_is_passed_over_is_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "train/imgs/a.png", "train/masks/a.png", "test1/imgs/one/b.png", "test1/imgs/two/c.png")
    dataset = detect_layout(tmp_path)
    assert [path.name for path in dataset.unused_parts] == ["one", "two"]
    (finding,) = check_names(dataset, allow_unpaired=False)
    assert finding.kind == "error"
    assert "test1/imgs/one/" in finding.text
    assert [item.kind for item in check_names(dataset, allow_unpaired=True)] == ["warning"]


def test_a_folder_of_images_without_masks_and_one_far_below_are_noted(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.png", "masks/a.png", "images_extra/b.png", "a/b/c/d/e.png")
    assert detect_layout(tmp_path).notes == ["a/b/c/d/ is not used", "images_extra/ is not used"]


def test_a_further_folder_inside_a_used_part_is_noted(tmp_path: Path) -> None:
    _touch(tmp_path, "train/images/a.png", "train/masks/a.png", "train/edges/a.png", "readme.txt")
    dataset = detect_layout(tmp_path)
    assert (dataset.notes, dataset.unused_parts) == (["train/edges/ is not used"], [])


def test_one_folder_with_suffixes(tmp_path: Path) -> None:
    result = detect_layout(_touch(tmp_path, "a.jpg", "a_mask.png", "b.jpg", "b_mask.png"))
    assert (result.layout, [pair.id for pair in result.pairs]) == ("suffix", ["a", "b"])


def test_a_single_nested_folder_is_entered(tmp_path: Path) -> None:
    assert _parts(_touch(tmp_path, "Set/Set/images/a.png", "Set/Set/masks/a.png")) == {"a": None}


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    result = detect_layout(_touch(tmp_path, "images/a.png", "images/._a.png", "masks/a.png", "masks/._a.png"))
    assert len(result.pairs) == 1


def test_a_csv_names_pairs_groups_and_splits(tmp_path: Path) -> None:
    _touch(tmp_path, "x/1.png", "y/2.png")
    (tmp_path / "pairs.csv").write_text("Image,Mask,split,group\nx/1.png,y/2.png,validation,p7\n")
    pair = detect_layout(tmp_path / "pairs.csv").pairs[0]
    assert (pair.id, pair.images[0], pair.split, pair.group) == ("1", tmp_path / "x/1.png", "val", "p7")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
def test_a_table_of_volumes_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    (tmp_path / "cases.csv").write_text(f"image,mask\n{name},{name}\n")
    with pytest.raises(
        DataError, match=rf"cases\.csv: lists {name}, a volume, but tables are for images; prepare a folder"
    ):
        detect_layout(tmp_path / "cases.csv")


def test_further_columns_of_a_csv_are_kept(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,mask,Scanner,age\nx/1.png,y/2.png, A ,\n")
    assert detect_layout(tmp_path / "pairs.csv").pairs[0].fields == {"scanner": "A", "age": ""}


def test_a_csv_without_the_columns_says_which_it_found(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="found the columns a, b, expected at least image and mask"):
        detect_layout(tmp_path / "pairs.csv")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-16-be-bom"])
def test_tables_of_spreadsheets_are_read(tmp_path: Path, delimiter: str, encoding: str) -> None:
    text = "image,mask,split\r\nx/Über.png,y/2.png,train\r\n".replace(",", delimiter)
    content = b"\xfe\xff" + text.encode("utf-16-be") if encoding == "utf-16-be-bom" else text.encode(encoding)
    (tmp_path / "pairs.csv").write_bytes(content)
    pair = detect_layout(tmp_path / "pairs.csv").pairs[0]
    assert (pair.id, pair.images[0], pair.masks[0]) == ("Über", tmp_path / "x/Über.png", tmp_path / "y/2.png")


def test_backslashes_of_windows_separate_folders(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,mask\nx\\a.png,y\\a.png;y\\b.png\n")
    pair = detect_layout(tmp_path / "pairs.csv").pairs[0]
    assert (pair.id, pair.images) == ("a", (tmp_path / "x/a.png",))
    assert pair.masks == (tmp_path / "y/a.png", tmp_path / "y/b.png")


def test_rows_of_one_image_are_several_masks(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,mask\na.png,1.png\na.png,2.png\nb.png,1.png\n")
    dataset = detect_layout(tmp_path / "pairs.csv")
    assert [(pair.id, len(pair.masks)) for pair in dataset.pairs] == [("a", 2), ("b", 1)]
    assert dataset.needs_merging


def test_equal_rows_are_repeated_ids_and_no_masks_to_merge(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,mask\na.png,1.png\na.png,1.png\n")
    dataset = detect_layout(tmp_path / "pairs.csv")
    assert not dataset.needs_merging
    assert "2 cases share the id a" in check_names(dataset, allow_unpaired=False)[-1].text


def test_a_folder_for_each_image_with_its_masks_is_read(tmp_path: Path) -> None:
    _touch(tmp_path, "p1/images/p1.png", "p1/masks/x7.png", "p1/masks/q2.png", "p2/images/p2.png", "p2/masks/z1.png")
    dataset = detect_layout(tmp_path)
    assert [(pair.id, len(pair.masks), pair.stratum) for pair in dataset.pairs] == [("p1", 2, ""), ("p2", 1, "")]
    assert dataset.needs_merging


@pytest.mark.parametrize("split", ["", "train/"])
def test_a_folder_of_masks_for_each_image_is_read(tmp_path: Path, split: str) -> None:
    _touch(tmp_path, *(f"{split}{name}" for name in ("images/a.png", "images/b.png", "masks/a/1.png", "masks/a/2.png")))
    dataset = detect_layout(tmp_path)
    assert [(pair.id, len(pair.masks)) for pair in dataset.pairs] == [("a", 2)]
    assert [path.name for path in dataset.unmatched_images] == ["b.png"]
    assert dataset.needs_merging


def test_many_folders_are_not_all_named(tmp_path: Path) -> None:
    for index in range(9):
        _touch(tmp_path, f"p{index}/images/p{index}.png", f"p{index}/masks/m.png", f"p{index}/masks/n.png")
    assert "and 5 more" in detect_layout(tmp_path).evidence


@pytest.mark.parametrize("inside", ["images", "masks"])
def test_a_folder_beside_the_masks_proposes_the_folder_above(tmp_path: Path, inside: str) -> None:
    _touch(tmp_path, "set/images/a.png", "set/masks/a.png")
    with pytest.raises(DataError, match=r"did you mean the folder above, .*set\?"):
        detect_layout(tmp_path / "set" / inside)


def test_a_folder_with_a_table_proposes_the_table(tmp_path: Path) -> None:
    _touch(tmp_path, "a.png", "pairs.csv")
    with pytest.raises(DataError, match=r"did you mean .*pairs\.csv\?"):
        detect_layout(tmp_path)


def test_two_public_layouts_at_once_are_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "training/images/1_t.tif", "training/1st_manual/1_manual1.gif")
    _touch(tmp_path, "trainval-image/0000.jpg", "trainval-mask/0000.jpg")
    with pytest.raises(DataError, match=r"fits several layouts.*choose with --layout"):
        detect_layout(tmp_path)
    assert detect_layout(tmp_path, "tn3k").layout == "tn3k"


def test_an_empty_folder_lists_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"an empty folder, expected image-mask pairs: .*kvasir, siblings, suffix"):
        detect_layout(tmp_path)


def test_images_and_volumes_in_one_folder_are_refused(tmp_path: Path) -> None:
    _touch(tmp_path, *(f"{kind}/{name}" for kind in ("images", "masks") for name in ("a.png", "b.nii.gz")))
    with pytest.raises(
        DataError, match=r"images \(siblings: 1 pair\) and volumes \(nifti: 1 pair\).*prepare them apart"
    ):
        detect_layout(tmp_path)


def test_an_unknown_layout_gets_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'kvasir'"):
        detect_layout(tmp_path, "kvasr")


def test_a_column_of_splits_is_the_official_split(tmp_path: Path) -> None:
    _touch(tmp_path, "a.png", "b.png")
    (tmp_path / "with.csv").write_text("image,mask,split\na.png,b.png,test\n")
    (tmp_path / "without.csv").write_text("image,mask\na.png,b.png\n")
    assert detect_layout(tmp_path / "with.csv").official == "column split"
    assert detect_layout(tmp_path / "without.csv").official == ""


def test_rows_with_and_without_a_split_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,mask,split\na.png,b.png,test\nc.png,d.png,\n")
    with pytest.raises(DataError, match=r"1 rows have no split, the others have; fill all or none"):
        detect_layout(tmp_path / "pairs.csv")


def test_isic_folders_may_be_unpacked_into_folders_of_their_own_name(tmp_path: Path) -> None:
    images, masks = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"
    _touch(tmp_path, f"{images}/{images}/ISIC_1.jpg", f"{images}/__MACOSX/x.txt", f"{images}/.cache/y.txt")
    _touch(tmp_path, f"{masks}/{masks}/ISIC_1_segmentation.png")
    assert _parts(tmp_path) == {"ISIC_1": "train"}


@pytest.mark.parametrize(("named", "layout"), [(4, "kvasir"), (3, "siblings")])
def test_four_of_five_names_make_a_folder_kvasir(tmp_path: Path, named: int, layout: str) -> None:
    names = [f"c{index:024d}" if index < named else f"x{index}" for index in range(5)]
    _touch(tmp_path, *(f"{folder}/{name}.jpg" for folder in ("images", "masks") for name in names))
    assert detect_layout(tmp_path).layout == layout


def test_the_boxes_of_kvasir_make_it_kvasir_whatever_the_names(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.jpg", "masks/a.jpg", "kavsir_bboxes.json")
    assert detect_layout(tmp_path).layout == "kvasir"


def test_a_folder_whose_masks_belong_to_no_image_has_no_layout(tmp_path: Path) -> None:
    _touch(tmp_path, "a.png", "c.png", "x_mask.png", "y_mask.png")
    with pytest.raises(DataError, match=r"found a\.png, c\.png, x_mask\.png, y_mask\.png, expected image-mask pairs"):
        detect_layout(tmp_path)
