"""`guidino prepare`: files written, messages and refusals."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guidino_cli.commands import prepare
from guidino_cli.data.cases import read_label_map
from guidino_cli.data.manifest import load_manifest
from guidino_cli.errors import ConfigError, DataError, PartialError
from guidino_cli.options.data import PrepareOptions

pytestmark = pytest.mark.usefixtures("coarse_figures")


def _image(path: Path, *, seed: int = 0, size: tuple[int, int] = (40, 32), **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, **options)


def _mask(path: Path, *, value: int = 255, size: tuple[int, int] = (40, 32), **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", size)
    mask.paste(value, (10, 8, 26, 24))
    mask.save(path, **options)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twenty different pairs; a mask has 16 x 16 = 256 foreground pixels of 1280."""
    for index in range(20):
        _image(tmp_path / "src" / "images" / f"c{index:02d}.png", seed=index)
        _mask(tmp_path / "src" / "masks" / f"c{index:02d}.png")
    return tmp_path / "src"


def test_the_manifest_holds_what_was_found(source: Path, tmp_path: Path) -> None:
    prepare.run(source, PrepareOptions(out=tmp_path / "out", classes="background,polyp"))
    manifest = load_manifest(tmp_path / "out")
    assert (manifest.name, manifest.classes) == ("src", ["background", "polyp"])
    assert manifest.source["counts"] == {"train": 14, "val": 2, "test": 4}
    assert (manifest.source["layout"], manifest.source["mask_rule"]) == ("siblings", "nonzero")
    case = manifest.cases[3]
    assert (case.id, case.size_hw, case.foreground) == ("c03", (32, 40), 0.2)
    assert case.image.samefile(source / "images" / "c03.png")
    assert case.mask is not None
    assert np.bincount(read_label_map(case.mask).ravel()).tolist() == [1024, 256]


@pytest.mark.figures
def test_a_report_and_a_contact_sheet_are_written(source: Path, tmp_path: Path) -> None:
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "| train | 14 | 0 | 80.00 % | 20.00 % |" in report
    assert Image.open(tmp_path / "out" / "contact_sheet.png").width > 600


@pytest.mark.figures
def test_an_inverted_mask_is_named_on_the_console_in_the_report_and_in_the_manifest(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = source / "masks" / "c07.png"
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    reason = "inverted? The foreground covers 100 % of the image's border, usually 0 %"
    assert f"look at c07: {reason}" in " ".join(capsys.readouterr().out.split())
    assert f"- c07: {reason}" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert load_manifest(tmp_path / "out").source["suspicious_masks"] == [{"case": "c07", "reason": reason}]


def test_the_same_seed_gives_the_same_manifest(source: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare.run(source, PrepareOptions(out=tmp_path / name))
    assert (tmp_path / "one" / "cases.json").read_text() == (tmp_path / "two" / "cases.json").read_text()


def test_the_next_command_is_on_one_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare.run(source, PrepareOptions(out=tmp_path / "a folder"))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"next      guidino train --preset own-unet --data '{tmp_path / 'a folder'}' -o RUN"


def test_with_folds_and_no_validation_part_the_next_command_trains_the_folds(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare.run(source, PrepareOptions(out=tmp_path / "out", split="100/0/0", folds=3))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"next      guidino train --preset own-unet --data {tmp_path / 'out'} --folds 3 -o RUNS"


@pytest.mark.parametrize(
    ("options", "proposed"),
    [
        ({"split": "100/0/0"}, "--split 100/0/0 --folds 2 --overwrite"),
        # Two groups: one is in train, the other in test, so folds would need the test part.
        ({"group_by": "^c(.)", "split": "60/10/30"}, "--split 50/50/0 --group-by '^c(.)' --overwrite"),
    ],
)
def test_without_a_validation_part_the_next_command_makes_one(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    run: Callable[..., int],
    options: dict[str, str],
    proposed: str,
) -> None:
    out = tmp_path / "out"
    prepare.run(source, PrepareOptions(out=out, **options))
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("next      ")
    assert command == f"guidino prepare {source} --out {out} {proposed}"
    assert run(*shlex.split(command)[1:]) == 0
    assert "guidino train --preset own-unet" in capsys.readouterr().out.splitlines()[-1]


def test_one_case_is_not_told_to_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _image(tmp_path / "src" / "images" / "a.png")
    _mask(tmp_path / "src" / "masks" / "a.png")
    prepare.run(tmp_path / "src", PrepareOptions(out=tmp_path / "out"))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "next      add more data: one case cannot both train and validate"


def test_empty_masks_are_not_told_to_train(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (source / "masks").iterdir():
        _mask(path, value=0)
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    assert capsys.readouterr().out.splitlines()[-1].startswith("next      check the masks: no training mask has")


def test_folds_that_need_the_test_part_say_how_to_have_none(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 group in test: --split 100/0/0 leaves none there"):
        prepare.run(source, PrepareOptions(out=tmp_path / "out", group_by="^c(.)", folds=2, split="60/10/30"))
    prepare.run(source, PrepareOptions(out=tmp_path / "out", group_by="^c(.)", folds=2, split="100/0/0"))


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """Three images with two masks each: 10 x 10 pixels, of which c0's overlap in 5 x 10, and c1's and c2's nowhere."""
    for index, start in enumerate((5, 10, 20)):
        _image(tmp_path / "src" / "images" / f"c{index}.png", seed=index)
        for number, left in enumerate((0, start)):
            mask = Image.new("L", (40, 32))
            mask.paste(255, (left, 0, left + 10, 10))
            (tmp_path / "src" / "masks").mkdir(exist_ok=True)
            mask.save(tmp_path / "src" / "masks" / f"c{index}_{number}.png")
    return tmp_path / "src"


def test_several_masks_of_an_image_are_merged_only_on_request(several: Path, tmp_path: Path) -> None:
    message = r"3 images with several masks each \(images/c0.png has masks/c0_0.png, masks/c0_1.png\): --merge-masks"
    with pytest.raises(DataError, match=message):
        prepare.run(several, PrepareOptions(out=tmp_path / "out"))
    prepare.run(several, PrepareOptions(out=tmp_path / "out", merge_masks=True))
    manifest = load_manifest(tmp_path / "out")
    assert [round((case.foreground or 0) * 1280) for case in manifest.cases] == [150, 200, 200]
    expected = "6 masks of 3 images merged to their union; 50 pixels in 1 image lie in several masks: c0"
    assert expected in manifest.source["warnings"]


def test_several_masks_with_classes_are_not_merged(several: Path, tmp_path: Path) -> None:
    for path in (several / "masks").glob("*_1.png"):
        Image.open(path).point(lambda value: value // 128 * 2).save(path)
    for path in (several / "masks").glob("*_0.png"):
        Image.open(path).point(lambda value: value // 128).save(path)
    with pytest.raises(DataError, match="3 problems"):
        prepare.run(several, PrepareOptions(out=tmp_path / "out", merge_masks=True))
    prepare.run(several, PrepareOptions(out=tmp_path / "out", merge_masks=True, binary=True))


def test_a_name_with_double_quotes_is_a_name(source: Path, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (source / folder / "c03.png").rename(source / folder / 'the "best" scan.png')
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    case = next(case for case in load_manifest(tmp_path / "out").cases if case.id == 'the "best" scan')
    assert case.mask is not None
    assert np.bincount(read_label_map(case.mask).ravel()).tolist() == [1024, 256]


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_an_empty_file_is_called_empty(source: Path, tmp_path: Path, folder: str) -> None:
    (source / folder / "c03.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"c03\.png: is empty \(0 bytes\); replace or remove the file"):
        prepare.run(source, PrepareOptions(out=tmp_path / "out"))


def test_masks_without_a_zero_ask_for_the_background_once(source: Path, tmp_path: Path) -> None:
    for path in (source / "masks").iterdir():
        Image.open(path).point(lambda value: 2 if value else 1).save(path)
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    warnings = load_manifest(tmp_path / "out").source["warnings"]
    assert len(warnings) == 1
    assert "no mask has a pixel of class 0, the background" in warnings[0]


def test_jpeg_masks_are_cut_at_127(source: Path, tmp_path: Path) -> None:
    for path in (source / "masks").iterdir():
        Image.open(path).convert("RGB").save(path.with_suffix(".jpg"), quality=75)
        path.unlink()
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    manifest = load_manifest(tmp_path / "out")
    assert manifest.source["mask_threshold"] == 127
    assert {case.foreground for case in manifest.cases} == {0.2}


def test_exif_rotation_applies_to_image_and_size(source: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    _image(source / "images" / "c00.png", seed=99, size=(32, 40), exif=exif)
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    assert load_manifest(tmp_path / "out").cases[0].size_hw == (32, 40)


def test_all_problems_are_reported_at_once(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "masks" / "c00.png").unlink()
    (source / "images" / "c01.png").unlink()
    _mask(source / "masks" / "c02.png", size=(32, 40))
    (source / "images" / "c03.png").write_bytes(b"no image")
    _image(source / "images" / "c04.jpg")
    with pytest.raises(DataError, match="5 problems"):
        prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    message = capsys.readouterr().err.replace("\n", "")
    for expected in (
        "without a mask (images/c00.png)",
        "without an image (masks/c01.png)",
        "turned by 90 degrees",
        "c03.png",
        "c04.jpg",
    ):
        assert expected in message
    assert not (tmp_path / "out").exists()


def test_a_single_problem_is_the_error_message(source: Path, tmp_path: Path) -> None:
    _mask(source / "masks" / "c02.png", size=(39, 32))
    with pytest.raises(DataError, match=r"c02\.png: is 39x32, its image 40x32; --skip-bad"):
        prepare.run(source, PrepareOptions(out=tmp_path / "out"))


def test_a_truncated_jpeg_is_refused_and_can_be_skipped(source: Path, tmp_path: Path) -> None:
    (source / "images" / "c05.png").unlink()
    _image(source / "images" / "c05.jpg", size=(400, 320))
    whole = (source / "images" / "c05.jpg").read_bytes()
    (source / "images" / "c05.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"c05\.jpg"):
        prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    with pytest.raises(PartialError, match=r"c05\.jpg"):
        prepare.run(source, PrepareOptions(out=tmp_path / "out", skip_bad=True))
    manifest = load_manifest(tmp_path / "out")
    assert len(manifest.cases) == 19
    assert "c05.jpg" in manifest.source["warnings"][0]


def test_a_tiff_of_several_pages_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "images" / "c00.png").unlink()
    pages = [Image.new("L", (40, 32), grey) for grey in (10, 20)]
    pages[0].save(source / "images" / "c00.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"c00\.tif: has 2 pages, expected one"):
        prepare.run(source, PrepareOptions(out=tmp_path / "out"))


def test_unpaired_files_can_be_left_out_on_request(source: Path, tmp_path: Path) -> None:
    (source / "masks" / "c00.png").unlink()
    prepare.run(source, PrepareOptions(out=tmp_path / "out", allow_unpaired=True))
    manifest = load_manifest(tmp_path / "out")
    assert len(manifest.cases) == 19
    assert "images/c00.png" in manifest.source["warnings"][0]


def test_unexpected_mask_values_are_refused(source: Path, tmp_path: Path) -> None:
    _mask(source / "masks" / "c07.png", value=120)
    with pytest.raises(DataError, match=r"^1 of 20 masks.*--classes.*Files: c07\.png \(2 values: 0, 120\)$"):
        prepare.run(source, PrepareOptions(out=tmp_path / "out"))


def test_a_table_of_values_names_the_classes(source: Path, tmp_path: Path) -> None:
    _mask(source / "masks" / "c07.png", value=120)
    prepare.run(source, PrepareOptions(out=tmp_path / "out", classes="0=background,255=disc,120=cup"))
    manifest = load_manifest(tmp_path / "out")
    assert manifest.classes == ["background", "disc", "cup"]
    assert manifest.cases[7].mask is not None
    assert np.bincount(read_label_map(manifest.cases[7].mask).ravel()).tolist() == [1024, 0, 256]


def test_a_class_missing_from_a_split_is_a_warning(source: Path, tmp_path: Path) -> None:
    _mask(source / "masks" / "c07.png", value=120)
    prepare.run(source, PrepareOptions(out=tmp_path / "out", classes="0=background,255=disc,120=cup"))
    warnings = [
        text for text in load_manifest(tmp_path / "out").source["warnings"] if text.endswith("has no pixel of cup")
    ]
    assert len(warnings) == 2


def test_empty_masks_are_listed(source: Path, tmp_path: Path) -> None:
    _mask(source / "masks" / "c01.png", value=0)
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    assert "1 empty mask: c01" in load_manifest(tmp_path / "out").source["notes"]


def test_duplicates_stay_in_one_split(source: Path, tmp_path: Path) -> None:
    for index in range(1, 12):
        (source / "images" / f"c{index:02d}.png").write_bytes((source / "images" / "c00.png").read_bytes())
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    cases = load_manifest(tmp_path / "out").cases
    assert len({case.split for case in cases[:12]}) == 1
    assert len({case.group for case in cases[:12]}) == 1


def test_recompressed_copies_stay_in_one_split(source: Path, tmp_path: Path) -> None:
    original = Image.open(source / "images" / "c00.png")
    for index in range(1, 12):
        (source / "images" / f"c{index:02d}.png").unlink()
        original.save(source / "images" / f"c{index:02d}.jpg", quality=80 + index)
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    assert len({case.group for case in load_manifest(tmp_path / "out").cases[:12]}) == 1


def test_duplicates_across_official_splits_are_a_warning(source: Path, tmp_path: Path) -> None:
    (source / "images" / "c01.png").write_bytes((source / "images" / "c00.png").read_bytes())
    stems = [f"c{index:02d}" for index in range(20)]
    for index in (4, 6, 8, 10):
        twin = (source / "images" / f"c{index:02d}.png").read_bytes()
        (source / "images" / f"c{index + 1:02d}.png").write_bytes(twin)
    for part, own in (("train", stems[1::2]), ("test", stems[::2])):
        (source / f"{part}.txt").write_text("\n".join(own))
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    warnings = load_manifest(tmp_path / "out").source["warnings"]
    (across,) = [text for text in warnings if "several parts" in text]
    assert across.startswith("5 pictures are in several parts: c00 (test) = c01 (")
    assert across.count(" = ") == 3
    assert across.endswith(" and 2 more; report.md names all")


def test_copied_data_does_not_need_the_source(source: Path, tmp_path: Path) -> None:
    prepare.run(source, PrepareOptions(out=tmp_path / "out", copy=True))
    case = load_manifest(tmp_path / "out").cases[0]
    assert case.image == tmp_path / "out" / "images" / "c00.png"
    assert case.image.read_bytes() == (source / "images" / "c00.png").read_bytes()


def test_the_export_is_an_nnunet_folder_that_can_be_prepared_again(source: Path, tmp_path: Path) -> None:
    prepare.run(source, PrepareOptions(out=tmp_path / "out", export="nnunet:27", folds=3))
    folder = tmp_path / "out" / "nnUNet_raw" / "Dataset027_src"
    description = json.loads((folder / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "foreground": 1}
    assert (description["numTraining"], description["file_ending"]) == (16, ".png")
    assert len(list((folder / "imagesTs").glob("*_0000.png"))) == 4
    assert Image.open(next((folder / "imagesTr").iterdir())).mode == "RGB"
    folds = json.loads((folder / "splits_final.json").read_text())
    assert len(folds) == 3
    assert all(len(fold["train"]) + len(fold["val"]) == 16 for fold in folds)
    prepare.run(folder, PrepareOptions(out=tmp_path / "again"))
    before = {
        case.id: (case.split == "test", case.foreground, case.fold) for case in load_manifest(tmp_path / "out").cases
    }
    after = {
        case.id: (case.split == "test", case.foreground, case.fold) for case in load_manifest(tmp_path / "again").cases
    }
    assert after == before


def test_channel_files_become_one_image(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    for case in ("a", "b", "c"):
        for channel in range(2):
            _image(root / "imagesTr" / f"{case}_{channel:04d}.png", seed=channel + 7 * ord(case))
        _mask(root / "labelsTr" / f"{case}.png", value=1)
    (root / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "x": 1}}))
    prepare.run(root, PrepareOptions(out=tmp_path / "out"))
    case = load_manifest(tmp_path / "out").cases[0]
    merged = np.asarray(Image.open(case.image))
    red = np.asarray(Image.open(root / "imagesTr" / "a_0000.png").convert("RGB"))[..., 0]
    assert case.image.parent == tmp_path / "out" / "images"
    assert (merged[..., 0] == red).all()
    assert not merged[..., 2].any()


def test_the_group_of_a_pattern_stays_together(source: Path, tmp_path: Path) -> None:
    prepare.run(source, PrepareOptions(out=tmp_path / "out", group_by=r"^c(\d)"))
    cases = load_manifest(tmp_path / "out").cases
    assert {case.group for case in cases} == {"0", "1"}
    assert all(len({case.split for case in cases if case.group == group}) == 1 for group in "01")


def test_a_dry_run_writes_nothing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    prepare.run(source, PrepareOptions(out=None, dry_run=True))
    assert "20 cases" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_folder_is_kept_without_overwrite(source: Path, tmp_path: Path) -> None:
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    with pytest.raises(ConfigError, match="--overwrite"):
        prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    prepare.run(source, PrepareOptions(out=tmp_path / "out", overwrite=True, seed=1))
    assert load_manifest(tmp_path / "out").source["seed"] == 1


def test_overwrite_never_empties_a_folder_that_guidino_did_not_make(source: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("words")
    with pytest.raises(ConfigError, match="guidino did not write"):
        prepare.run(source, PrepareOptions(out=tmp_path / "thesis", overwrite=True))
    assert (tmp_path / "thesis" / "chapter1.txt").exists()


def test_output_in_or_around_the_source_is_refused(source: Path, tmp_path: Path) -> None:
    for out in (source, source / "out", tmp_path):
        with pytest.raises(ConfigError, match=r"holds the input|lies inside the input"):
            prepare.run(source, PrepareOptions(out=out, overwrite=True))


def test_an_interrupted_run_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("guidino_cli.preparation.writing.save_manifest", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_contradicting_options_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="contradict"):
        prepare.run(source, PrepareOptions(out=tmp_path / "out", binary=True, threshold=100))


def _turned(tmp_path: Path, orientation: int) -> Path:
    """Three images turned by EXIF, with masks (16 x 16 from column 10, row 8) without a tag."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    for index in range(3):
        _image(tmp_path / "src" / "images" / f"c{index}.jpg", seed=index, exif=exif)
        _mask(tmp_path / "src" / "masks" / f"c{index}.png")
    return tmp_path / "src"


def test_masks_without_a_tag_of_images_turned_by_exif_are_asked_about(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 images turned.*images/c0\.jpg.*--exif apply.*--exif ignore"):
        prepare.run(_turned(tmp_path, 3), PrepareOptions(out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("exif", "first_column"), [("apply", 10), ("ignore", 14)])
def test_exif_decides_whether_masks_are_turned_with_their_images(
    tmp_path: Path, exif: str, first_column: int, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare.run(_turned(tmp_path, 3), PrepareOptions(out=tmp_path / "out", exif=exif))
    mask = read_label_map(tmp_path / "out" / "masks" / "c0.png")
    # Columns 10..25 of 40, turned by 180 degrees: 14..29.
    assert np.flatnonzero(mask.any(axis=0))[0] == first_column
    assert "3 images turned by the EXIF tag" in capsys.readouterr().out


def test_the_size_of_a_mask_tells_that_it_was_drawn_on_the_stored_image(tmp_path: Path) -> None:
    source = _turned(tmp_path, 6)
    with pytest.raises(DataError):
        prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    prepare.run(source, PrepareOptions(out=tmp_path / "out", exif="ignore"))
    assert read_label_map(tmp_path / "out" / "masks" / "c0.png").shape == (40, 32)


# --- Pixels that do not count


@pytest.fixture
def unsure(source: Path) -> Path:
    """The source, whose masks have the value 7 in their last four columns, 32 x 4 of 32 x 40 pixels."""
    for path in (source / "masks").iterdir():
        values = np.asarray(Image.open(path)).copy()
        values[:, -4:] = 7
        Image.fromarray(values).save(path)
    return source


def test_pixels_of_the_ignore_label_are_kept_apart_from_the_classes(
    unsure: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare.run(unsure, PrepareOptions(out=tmp_path / "out", ignore_label=7, export="nnunet"))
    manifest = load_manifest(tmp_path / "out")
    assert (manifest.classes, manifest.ignore_label) == (["background", "foreground"], 255)
    assert {case.ignore_label for case in manifest.cases} == {255}
    assert "2,560 pixels of 20 images do not count (ignore label 7)" in " ".join(capsys.readouterr().out.split())
    case = manifest.cases[3]
    assert case.mask is not None
    counts = np.bincount(read_label_map(case.mask).ravel(), minlength=256)
    assert (int(counts[255]), int(counts[[0, 1]].sum())) == (128, 1280 - 128)
    assert case.foreground == pytest.approx(counts[1] / 1280)
    # nnU-Net's ignore label follows the classes, and is read again.
    (exported,) = (tmp_path / "out" / "nnUNet_raw").iterdir()
    labels = json.loads((exported / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "foreground": 1, "ignore": 2}
    prepare.run(exported, PrepareOptions(out=tmp_path / "again"))
    again = load_manifest(tmp_path / "again")
    assert (again.classes, again.ignore_label) == (manifest.classes, 255)
    masks = [next(case for case in found.cases if case.id == "c03").mask for found in (manifest, again)]
    assert np.array_equal(*(read_label_map(mask) for mask in masks if mask is not None))


def test_shares_of_classes_are_of_the_pixels_that_count(
    unsure: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare.run(unsure, PrepareOptions(out=tmp_path / "out", ignore_label=7))
    # 256 of 1280 - 128 pixels.
    assert "background 77.8 %, foreground 22.2 %" in " ".join(capsys.readouterr().out.split())
    assert "| 77.78 % | 22.22 % |" in (tmp_path / "out" / "report.md").read_text()


def test_a_pixel_that_one_of_several_masks_knows_counts(
    several: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (several / "masks").iterdir():
        mask = Image.open(path)
        # The first masks do not know twelve rows of 40 pixels, of which the second know four.
        mask.paste(7, (0, 20, 40, 32)) if path.stem.endswith("_0") else mask.paste(255, (0, 20, 40, 24))
        mask.save(path)
    prepare.run(several, PrepareOptions(out=tmp_path / "out", merge_masks=True, ignore_label=7))
    text = " ".join(capsys.readouterr().out.split())
    assert f"{3 * 8 * 40} pixels of 3 images do not count (ignore label 7)" in text
    assert np.count_nonzero(read_label_map(tmp_path / "out" / "masks" / "c0.png") == 255) == 8 * 40


def test_an_ignore_label_in_masks_compressed_with_loss_is_refused(unsure: Path, tmp_path: Path) -> None:
    for path in sorted((unsure / "masks").iterdir())[:2]:
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    with pytest.raises(DataError, match=r"2 masks \(JPEG or WebP\).*ignore label 7 are not known: \S+c00.jpg"):
        prepare.run(unsure, PrepareOptions(out=tmp_path / "out", ignore_label=7))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (1, "labels foreground and ignore are both 1"),
        (2.5, "ignore is 2.5, expected a whole number above 0"),
        (0, "ignore is 0, expected a whole number above 0"),
        ("2", "ignore is '2', expected a whole number above 0"),
    ],
)
def test_an_ignore_label_of_nnunet_that_cannot_be_is_refused(
    unsure: Path, tmp_path: Path, label: object, message: str
) -> None:
    prepare.run(unsure, PrepareOptions(out=tmp_path / "out", ignore_label=7, export="nnunet"))
    (exported,) = (tmp_path / "out" / "nnUNet_raw").iterdir()
    description = json.loads((exported / "dataset.json").read_text())
    description["labels"]["ignore"] = label
    (exported / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match=message):
        prepare.run(exported, PrepareOptions(out=tmp_path / "again"))


def test_an_ignore_label_that_no_mask_has_is_said(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare.run(source, PrepareOptions(out=tmp_path / "out", ignore_label=9))
    assert "no mask has a pixel of the ignore label, 9" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("label", "classes", "message"),
    [
        (0, None, "0 is the background"),
        (255, "0=background,255=polyp", "is polyp by --classes"),
        (7, "#000000=background,#ff0000=polyp", "is a grey value, but --classes names colours"),
    ],
)
def test_an_ignore_label_that_is_a_class_is_refused(
    source: Path, tmp_path: Path, label: int, classes: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare.run(source, PrepareOptions(out=tmp_path / "out", ignore_label=label, classes=classes))
    assert not (tmp_path / "out").exists()


def test_an_image_with_too_long_a_name_is_named_before_anything_is_written(source: Path, tmp_path: Path) -> None:
    _image(source / "images" / f"{'x' * 245}.png", seed=50)
    _mask(source / "masks" / f"{'x' * 245}.png")
    with pytest.raises(DataError, match=r"has 245 bytes, expected at most 200: rename .*/images/x{245}\.png"):
        prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


@pytest.mark.parametrize(
    ("folder", "split", "counts"),
    [
        ("test", "test", {"train": 18, "val": 2, "test": 5}),
        ("Test", "test", {"train": 18, "val": 2, "test": 5}),
        ("validation", "val", {"train": 20, "val": 5, "test": 0}),
    ],
)
def test_an_official_part_beside_images_is_kept(
    source: Path, tmp_path: Path, folder: str, split: str, counts: dict[str, int]
) -> None:
    for index in range(5):
        _image(source / folder / "images" / f"t{index}.png", seed=100 + index)
        _mask(source / folder / "masks" / f"t{index}.png")
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    manifest = load_manifest(tmp_path / "out")
    assert {case.image.stem for case in manifest.cases if case.split == split} >= {f"t{index}" for index in range(5)}
    assert manifest.source["counts"] == counts
    assert any("20 cases in no official part" in text for text in manifest.source["notes"])


def test_a_list_of_test_cases_alone_leaves_the_others_for_training(source: Path, tmp_path: Path) -> None:
    (source / "test.txt").write_text("c00\nc01\nc02\nc03\n")
    prepare.run(source, PrepareOptions(out=tmp_path / "out"))
    cases = load_manifest(tmp_path / "out").cases
    assert {case.id for case in cases if case.split == "test"} == {"c00", "c01", "c02", "c03"}
    assert [sum(case.split == split for case in cases) for split in ("train", "val")] == [14, 2]
