"""COCO JSON as a layout of `prepare`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_images import save_images
from PIL import Image

from guidino_cli.data.manifest import load_manifest
from guidino_cli.errors import ConfigError, DataError, PartialError
from guidino_cli.preparation.layouts import detect_layout

Prepare = Callable[..., dict[str, np.ndarray]]

_SQUARE = [1, 1, 5, 1, 5, 4, 1, 4]
_CATEGORIES = [{"id": 7, "name": "tool"}, {"id": 3, "name": "polyp"}]


def _annotation(segmentation: object, category: int = 3, image: int = 1, **more: object) -> dict[str, object]:
    return {"id": 1, "image_id": image, "category_id": category, "segmentation": segmentation, **more}


def _write(root: Path, annotations: list[dict[str, object]], *, name: str = "coco.json", **changes: Any) -> Path:
    save_images(root, "images/a.png", "images/b.png")
    listed = [{"id": 1, "file_name": "a.png", "width": 8, "height": 6}, {"id": 2, "file_name": "b.png"}]
    content = {"images": listed, "annotations": annotations, "categories": _CATEGORIES, **changes}
    (root / name).write_text(json.dumps(content))
    return root


def test_categories_become_classes_in_the_order_of_their_ids(tmp_path: Path) -> None:
    dataset = detect_layout(_write(tmp_path, [_annotation([_SQUARE])]))
    assert (dataset.layout, dataset.class_names) == ("coco", ("background", "polyp", "tool"))


def test_a_later_annotation_covers_an_earlier_one(tmp_path: Path, prepared: Prepare) -> None:
    source = _write(tmp_path / "x", [_annotation([_SQUARE]), _annotation([[3, 0, 8, 0, 8, 6, 3, 6]], category=7)])
    expected = np.zeros((6, 8), dtype=np.uint8)
    expected[1:4, 1:5] = 1
    expected[:, 3:8] = 2
    masks = prepared(source)
    assert np.array_equal(masks["a"], expected)
    assert not masks["b"].any()


def test_classes_select_and_order_and_the_rest_is_named(
    tmp_path: Path, prepared: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _write(tmp_path / "x", [_annotation([_SQUARE]), _annotation([[6, 0, 8, 0, 8, 2, 6, 2]], category=7)])
    masks = prepared(source, classes="background,tool")
    assert masks["a"].sum() == 4
    assert masks["a"][:2, 6:].all()
    assert "polyp (1 region)" in " ".join(capsys.readouterr().out.split())
    assert load_manifest(tmp_path / "prepared").classes == ["background", "tool"]
    assert set(np.unique(prepared(source, classes="background,tool,polyp")["a"])) == {0, 1, 2}


def test_names_that_no_category_has_are_an_error(tmp_path: Path, prepared: Prepare) -> None:
    source = _write(tmp_path / "x", [_annotation([_SQUARE])])
    with pytest.raises(ConfigError, match="named polpy; they have polyp, tool"):
        prepared(source, classes="background,polpy")


@pytest.mark.parametrize("counts", [[7, 3, 3, 3, 32], "733300Q1"])
def test_both_kinds_of_run_lengths_and_crowds_are_read(tmp_path: Path, prepared: Prepare, counts: object) -> None:
    # Columns of 6 pixels: rows 1 to 3 of columns 1 and 2.
    if isinstance(counts, str):
        oracle = pytest.importorskip("pycocotools.mask", reason="pycocotools, the oracle, is not installed")
        counts = oracle.frPyObjects({"size": [6, 8], "counts": [7, 3, 3, 3, 32]}, 6, 8)["counts"].decode()
    source = _write(tmp_path / "x", [_annotation({"size": [6, 8], "counts": counts}, iscrowd=1)])
    expected = np.zeros((6, 8), dtype=np.uint8)
    expected[1:4, 1:3] = 1
    assert np.array_equal(prepared(source)["a"], expected)


def test_masks_are_those_of_pycocotools(tmp_path: Path, prepared: Prepare) -> None:
    module = pytest.importorskip("pycocotools.coco", reason="pycocotools, the oracle, is not installed")
    random = np.random.default_rng(1)
    parts = [[random.uniform(-1, 9, 10).round(2).tolist() for _ in range(2)] for _ in range(6)]
    annotations = [
        _annotation(part, category=(3, 7)[index % 2], image=1 + index % 2) | {"id": index, "iscrowd": 0}
        for index, part in enumerate(parts)
    ]
    listed = [
        {"id": number, "file_name": name, "width": 8, "height": 6} for number, name in ((1, "a.png"), (2, "b.png"))
    ]
    source = _write(tmp_path / "x", annotations, images=listed)
    oracle = module.COCO(str(source / "coco.json"))
    masks = prepared(source)
    for number, case in ((1, "a"), (2, "b")):
        expected = np.zeros((6, 8), dtype=np.uint8)
        for annotation in annotations:
            if annotation["image_id"] == number:
                expected[oracle.annToMask(annotation) > 0] = {3: 1, 7: 2}[annotation["category_id"]]  # type: ignore[index]
        assert np.array_equal(masks[case], expected)


def test_files_named_by_split_make_the_official_split(tmp_path: Path) -> None:
    for split in ("train", "val"):
        save_images(tmp_path, f"{split}2017/{split}.png")
        content = {
            "images": [{"id": 1, "file_name": f"{split}.png"}],
            "annotations": [_annotation([_SQUARE])],
            "categories": _CATEGORIES,
        }
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    dataset = detect_layout(tmp_path)
    assert {pair.id: pair.split for pair in dataset.pairs} == {"train": "train", "val": "val"}


def test_equal_names_in_two_parts_are_told_apart(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        save_images(tmp_path, f"{split}/1.png")
        content = {
            "images": [{"id": 1, "file_name": "1.png"}],
            "annotations": [_annotation([_SQUARE])],
            "categories": _CATEGORIES,
        }
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(content))
    dataset = detect_layout(tmp_path)
    assert {pair.id: pair.images[0].parent.name for pair in dataset.pairs} == {"train_1": "train", "valid_1": "valid"}


def test_a_polygon_outside_the_image_is_clipped_and_named(
    tmp_path: Path, prepared: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _write(tmp_path / "x", [_annotation([[5, 3, 20, 3, 20, 9, 5, 9]])])
    assert prepared(source)["a"].sum() == 9
    assert "1 region of 1 image reaches outside the image and was clipped: a" in " ".join(
        capsys.readouterr().out.split()
    )


def _refuse(source: Path, prepared: Prepare, message: str, **options: object) -> None:
    with pytest.raises(DataError, match=message):
        prepared(source, **options)


def test_broken_json_is_one_line(tmp_path: Path, prepared: Prepare) -> None:
    source = _write(tmp_path / "x", [_annotation([_SQUARE])])
    text = (source / "coco.json").read_text()
    (source / "coco.json").write_text(text[:-1])
    _refuse(source, prepared, r"coco\.json: damaged .*export the annotations again")
    (source / "coco.json").write_text(text.replace("[[1,", "[[NaN,").replace("[[1, ", "[[NaN, "))
    _refuse(source, prepared, "NaN")


def test_categories_without_names_are_refused(tmp_path: Path, prepared: Prepare) -> None:
    source = _write(tmp_path / "x", [_annotation([_SQUARE])], categories=[{"id": 3}, {"id": 4, "name": " "}])
    _refuse(source, prepared, "without a name: id 3, 4")


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 3, "name": "polyp"}, {"id": 3, "name": "tool"}], "two categories have the id 3"),
        ([{"id": 3, "name": "polyp"}, {"id": 4, "name": " polyp"}], "two categories are named 'polyp'"),
    ],
)
def test_categories_that_cannot_be_told_apart_are_refused(
    tmp_path: Path, prepared: Prepare, categories: list[dict[str, Any]], message: str
) -> None:
    _refuse(_write(tmp_path / "x", [_annotation([_SQUARE])], categories=categories), prepared, message)


def test_an_id_written_as_text_in_annotations_is_that_of_the_image(tmp_path: Path, prepared: Prepare) -> None:
    source = _write(tmp_path / "x", [_annotation([_SQUARE]) | {"image_id": "2"}])
    masks = prepared(source)
    assert (masks["a"].sum(), masks["b"].sum()) == (0, 12)


def test_without_a_stated_size_an_image_that_exif_turns_needs_exif(tmp_path: Path, prepared: Prepare) -> None:
    source = _write(tmp_path / "x", [_annotation([_SQUARE], image=2)])
    exif = Image.Exif()
    exif[0x0112] = 6
    # Stored as 6x8, shown as 8x6.
    Image.new("RGB", (6, 8), "white").save(source / "images" / "b.png", exif=exif)
    _refuse(source, prepared, r"1 image turned by the EXIF tag.*images/b\.png.*--exif apply")
    expected = np.zeros((6, 8), dtype=np.uint8)
    expected[1:4, 1:5] = 1
    assert np.array_equal(prepared(source, exif="apply")["b"], expected)
    # As stored: rows 1 to 3 and columns 1 to 4 of (8, 6), then turned clockwise.
    stored = np.zeros((8, 6), dtype=np.uint8)
    stored[1:4, 1:5] = 1
    assert np.array_equal(prepared(source, exif="ignore")["b"], np.rot90(stored, -1))


def test_a_background_region_cuts_a_hole_in_binary_masks_too(tmp_path: Path, prepared: Prepare) -> None:
    categories = [*_CATEGORIES, {"id": 1, "name": "background"}]
    hole = _annotation([[2, 1, 4, 1, 4, 3, 2, 3]], category=1)
    source = _write(tmp_path / "x", [_annotation([_SQUARE], category=7), hole], categories=categories)
    expected = np.zeros((6, 8), dtype=np.uint8)
    expected[1:4, 1:5] = 1
    expected[1:3, 2:4] = 0
    assert np.array_equal(prepared(source, binary=True)["a"], expected)
    assert np.array_equal(prepared(source, classes="other,tool")["a"], expected)


def test_images_that_nobody_has_are_named_and_can_be_left_out(tmp_path: Path, prepared: Prepare) -> None:
    source = _write(tmp_path / "x", [_annotation([_SQUARE])])
    (source / "images" / "b.png").unlink()
    _refuse(source, prepared, r"1 image named by the label files is not there \(b\.png\)")
    assert set(prepared(source, allow_unpaired=True)) == {"a"}


def test_an_image_that_the_file_does_not_list_is_refused(tmp_path: Path, prepared: Prepare) -> None:
    source = _write(tmp_path / "x", [_annotation([_SQUARE])])
    save_images(source, "images/c.png")
    _refuse(source, prepared, r"1 image without a mask \(images/c\.png\)")


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [6, 7], "counts": [42]}, "a mask of 7x6, the image is 8x6"),
        ({"size": [6, 8], "counts": [42]}, "runs of 42 pixels, expected 48"),
        ({"size": [6, 8], "counts": "~~"}, "compressed RLE"),
        ({"size": [6, 8], "counts": "o" * 12 + "0"}, "a run of .* pixels, expected 48 for 8x6"),
        ({"size": [6, 8]}, "neither polygons nor run lengths"),
        ([[1, 1, 2, 2]], "polygon of 2 points, expected at least 3"),
        ([[1, 1, 2, 2, 3]], "polygon of 5 numbers, expected pairs"),
        ([[1, 1, 2, 2, 3, "4"]], "no numbers"),
        ([1, 1, 2, 2, 3, 4], "no list of polygons"),
    ],
)
def test_a_bad_annotation_costs_its_image_only(
    tmp_path: Path, prepared: Prepare, segmentation: object, message: str
) -> None:
    good = _annotation([_SQUARE], image=2)
    source = _write(tmp_path / "x", [_annotation(segmentation), good])
    _refuse(
        source,
        prepared,
        rf"coco\.json: image 'a\.png' has .*{message}.*--skip-bad",
    )
    with pytest.raises(PartialError, match="1 case left out"):
        prepared(source, skip_bad=True)


def test_an_image_of_boxes_alone_is_refused_because_its_mask_would_be_empty(
    tmp_path: Path, prepared: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    box = _annotation([], bbox=[1, 1, 4, 3])
    source = _write(tmp_path / "x", [box, box, _annotation([_SQUARE], image=2), _annotation(None, image=2)])
    _refuse(source, prepared, r"coco\.json: image 'a\.png' has 2 objects of polyp without an outline \(a box\?\)")
    with pytest.raises(PartialError, match="1 case left out"):
        prepared(source, skip_bad=True)
    assert "1 object of 1 image without an outline (boxes?), background in the mask" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[0.1, 0.1, 0.6, 0.1, 0.6, 0.5]], r"none covers a pixel of the image, 8x6; coordinates from 0 to 1, expected"),
        ({"size": [6, 8], "counts": [48]}, "1 region of polyp, but none covers a pixel of the image, 8x6"),
    ],
)
def test_an_image_whose_regions_cover_no_pixel_is_refused(
    segmentation: object, reason: str, tmp_path: Path, prepared: Prepare
) -> None:
    source = _write(tmp_path / "x", [_annotation(segmentation), _annotation([_SQUARE], image=2)])
    _refuse(source, prepared, rf"image 'a\.png' has .*{reason}")


def test_boxes_of_a_category_that_is_left_out_do_not_matter(tmp_path: Path, prepared: Prepare) -> None:
    box = _annotation([], category=7, bbox=[1, 1, 4, 3])
    source = _write(tmp_path / "x", [box, _annotation([_SQUARE], image=2)])
    masks = prepared(source, classes="background,polyp")
    assert not masks["a"].any()
    assert masks["b"].any()


def test_a_category_that_is_not_listed_and_another_size_are_refused(tmp_path: Path, prepared: Prepare) -> None:
    source = _write(tmp_path / "x", [_annotation([_SQUARE], category=9), _annotation([_SQUARE], image=2)])
    _refuse(source, prepared, "annotation of category 9, which the file does not list")
    listed = [{"id": 1, "file_name": "a.png", "width": 6, "height": 8}, {"id": 2, "file_name": "b.png"}]
    source = _write(tmp_path / "x", [_annotation([_SQUARE])], images=listed)
    _refuse(source, prepared, r"image 'a\.png' is 6x8 there, the file 8x6 \(turned by 90 degrees\?\)")


@pytest.mark.parametrize("option", [{"threshold": 3.0}, {"ignore_label": 3}, {"merge_masks": True}, {"store": "npy"}])
def test_options_of_masks_are_refused(tmp_path: Path, prepared: Prepare, option: dict[str, object]) -> None:
    source = _write(tmp_path / "x", [_annotation([_SQUARE])])
    with pytest.raises(ConfigError, match="is for masks, but these are label files"):
        prepared(source, **option)


def test_folders_of_masks_keep_their_layout_beside_a_label_file(tmp_path: Path) -> None:
    save_images(_write(tmp_path, [_annotation([_SQUARE])]), "masks/a.png", "masks/b.png")
    assert detect_layout(tmp_path).layout == "siblings"
    assert detect_layout(tmp_path, "coco").layout == "coco"
