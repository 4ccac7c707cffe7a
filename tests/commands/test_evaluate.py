"""`guidino evaluate` from files to files, through the command line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from guidino_cli.data.manifest import Manifest, save_manifest
from guidino_cli.types import Case

SIZE = (12, 16)  # diagonal 20


def block(rows: slice, columns: slice, value: int = 1) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[rows, columns] = value
    return mask


EMPTY = np.zeros(SIZE, dtype=np.uint8)
SQUARE = block(slice(2, 6), slice(2, 6))
MOVED = block(slice(2, 6), slice(4, 8))  # half of the square: tp 8, fp 8, fn 8


Run = Callable[..., int]
Save = Callable[[Path, np.ndarray], Path]
Rows = dict[str, dict[str, str]]


@pytest.fixture
def evaluated(tmp_path: Path, run: Run, read_rows: Callable[[Path], list[dict[str, str]]]) -> Callable[..., Rows]:
    """Run on tmp_path/predictions and tmp_path/truth; the rows of per_case.csv by case (and target)."""

    def call(*arguments: object, code: int = 0) -> Rows:
        out = tmp_path / "report"
        assert run("evaluate", tmp_path / "predictions", tmp_path / "truth", "-o", out, *arguments) == code
        rows = read_rows(out / "per_case.csv")
        several = len({row["target"] for row in rows}) > 1
        return {f"{row['case']} {row['target']}" if several else row["case"]: row for row in rows}

    return call


def summary(tmp_path: Path) -> dict[tuple[str, str], dict[str, float]]:
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    return {(line["target"], line["metric"]): line for line in report["summary"]}


def test_a_half_overlapping_square_scores_one_third_and_one_half(
    tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows]
) -> None:
    save_mask(tmp_path / "truth" / "a.png", SQUARE * 255)
    save_mask(tmp_path / "predictions" / "a.png", MOVED)
    row = evaluated()["a"]
    assert (float(row["iou"]), float(row["dice"]), float(row["hd95"])) == (pytest.approx(1 / 3), 0.5, 2.0)
    assert (row["unit"], row["status"], row["tp"], row["fp"], row["fn"], row["tn"]) == (
        "px",
        "ok",
        "8",
        "8",
        "8",
        "168",
    )


def test_a_missing_prediction_is_the_worst_result_and_counted(
    tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows]
) -> None:
    for name in "ab":
        save_mask(tmp_path / "truth" / f"{name}.png", SQUARE)
    save_mask(tmp_path / "predictions" / "a.png", SQUARE)
    rows = evaluated(code=6)
    assert (rows["b"]["status"], float(rows["b"]["dice"]), float(rows["b"]["hd95"])) == ("missing", 0.0, 20.0)
    dice = summary(tmp_path)["foreground", "dice"]
    assert (dice["mean"], dice["used"], dice["total"]) == (0.5, 2, 2)


def test_a_missing_prediction_fails_even_if_the_truth_is_empty(
    tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows]
) -> None:
    save_mask(tmp_path / "truth" / "a.png", SQUARE)
    save_mask(tmp_path / "truth" / "b.png", EMPTY)
    save_mask(tmp_path / "predictions" / "a.png", SQUARE)
    assert float(evaluated(code=6)["b"]["dice"]) == 0.0


def test_an_unreadable_prediction_fails_without_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], save_mask: Save, evaluated: Callable[..., Rows]
) -> None:
    for name in "ab":
        save_mask(tmp_path / "truth" / f"{name}.png", SQUARE)
        save_mask(tmp_path / "predictions" / f"{name}.png", SQUARE)
    (tmp_path / "predictions" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    rows = evaluated(code=6)
    assert [rows[name]["status"] for name in "ab"] == ["ok", "failed"]
    assert float(rows["b"]["dice"]) == 0.0
    assert "b.png" in capsys.readouterr().err


def test_a_prediction_of_another_size_fails_with_both_sizes_in_the_note(
    tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows]
) -> None:
    save_mask(tmp_path / "truth" / "a.png", SQUARE)
    save_mask(tmp_path / "predictions" / "a.png", SQUARE.T)
    note = evaluated(code=6)["a"]["note"]
    assert "16x12" in note
    assert "12x16" in note
    assert "turned" in note


def test_resampling_is_recorded_in_the_note(tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows]) -> None:
    save_mask(tmp_path / "truth" / "a.png", SQUARE)
    save_mask(tmp_path / "predictions" / "a.png", SQUARE.repeat(2, axis=0).repeat(2, axis=1))
    row = evaluated("--resample", "nearest")["a"]
    assert float(row["dice"]) == 1.0
    assert "resampled" in row["note"]


def test_two_empty_masks_are_a_perfect_case_with_its_own_status(
    tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows]
) -> None:
    for name, mask in {"a": SQUARE, "b": EMPTY}.items():
        save_mask(tmp_path / "truth" / f"{name}.png", mask)
        save_mask(tmp_path / "predictions" / f"{name}.png", mask)
    row = evaluated()["b"]
    assert (row["status"], float(row["dice"]), float(row["hd95"])) == ("both_empty", 1.0, 0.0)


def test_a_missed_object_costs_the_diagonal_of_the_image(
    tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows]
) -> None:
    save_mask(tmp_path / "truth" / "a.png", SQUARE)
    save_mask(tmp_path / "predictions" / "a.png", EMPTY)
    row = evaluated()["a"]
    assert (row["status"], float(row["dice"]), float(row["hd95"])) == ("prediction_empty", 0.0, 20.0)


def test_spacing_turns_pixels_into_millimetres(tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows]) -> None:
    save_mask(tmp_path / "truth" / "a.png", SQUARE)
    save_mask(tmp_path / "predictions" / "a.png", MOVED)
    row = evaluated("--spacing", "2,0.5")["a"]
    assert (float(row["hd95"]), row["unit"]) == (1.0, "mm")


def test_if_all_masks_are_empty_the_report_is_written_before_the_error(
    tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows]
) -> None:
    save_mask(tmp_path / "truth" / "a.png", EMPTY)
    save_mask(tmp_path / "predictions" / "a.png", EMPTY)
    evaluated(code=3)
    assert summary(tmp_path)["foreground", "dice"]["mean"] is None


def test_every_class_is_scored_and_weighs_the_same(
    tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows]
) -> None:
    truth = SQUARE + block(slice(8, 10), slice(8, 10), 2)
    prediction = SQUARE + block(slice(8, 10), slice(9, 11), 2)  # class 2: tp 2, fp 2, fn 2
    save_mask(tmp_path / "truth" / "a.png", truth)
    save_mask(tmp_path / "predictions" / "a.png", prediction)
    rows = evaluated()
    assert (float(rows["a class_1"]["dice"]), float(rows["a class_2"]["dice"])) == (1.0, 0.5)
    assert summary(tmp_path)["mean of classes", "dice"]["mean"] == 0.75


def test_a_prediction_with_one_of_two_classes_is_not_read_as_binary(
    tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows]
) -> None:
    """A prediction folder that holds 0 and 2 alone must not be read as a binary mask."""
    save_mask(tmp_path / "truth" / "a.png", SQUARE + block(slice(8, 10), slice(8, 10), 2))
    save_mask(tmp_path / "predictions" / "a.png", block(slice(8, 10), slice(8, 10), 2))
    rows = evaluated()
    assert (float(rows["a class_1"]["dice"]), float(rows["a class_2"]["dice"])) == (0.0, 1.0)


def test_a_class_outside_the_sampled_masks_is_scored(
    tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows]
) -> None:
    """The reading rule is made from a sample; a third class beyond it must be found all the same."""
    for index in range(60):
        mask = SQUARE + (block(slice(8, 10), slice(8, 10), 2) if index == 33 else 0)
        save_mask(tmp_path / "truth" / f"{index:02}.png", mask)
        save_mask(tmp_path / "predictions" / f"{index:02}.png", mask)
    rows = evaluated()
    assert float(rows["33 class_2"]["dice"]) == 1.0
    assert rows["33 class_2"]["tp"] == "4"


def test_volumes_are_measured_in_the_millimetres_of_their_header(
    tmp_path: Path, evaluated: Callable[..., Rows]
) -> None:
    for side, shift in {"truth": 0, "predictions": 2}.items():
        mask = np.zeros((10, 10, 10), dtype=np.uint8)
        mask[2 + shift : 5 + shift, 3:6, 3:6] = 1
        (tmp_path / side).mkdir()
        nibabel.save(nibabel.Nifti1Image(mask, np.diag([1.5, 1, 1, 1])), tmp_path / side / "a.nii.gz")
    row = evaluated()["a"]
    assert (float(row["hd95"]), row["unit"], row["spacing"]) == (3.0, "mm", "1.5x1x1")


def volumes(tmp_path: Path, affine: np.ndarray) -> None:
    """A block, and the same voxels counted from the other end of the first axis under another header."""
    mask = np.zeros((6, 6, 6), dtype=np.uint8)
    mask[1:4, 2:4, 2:4] = 1
    for side, stored, header in (("truth", mask, np.eye(4)), ("predictions", mask[::-1], affine)):
        (tmp_path / side).mkdir()
        nibabel.save(nibabel.Nifti1Image(stored, header), tmp_path / side / "a.nii.gz")


def test_the_page_shows_volumes_in_three_planes(tmp_path: Path, evaluated: Callable[..., Rows]) -> None:
    volumes(tmp_path, np.eye(4))
    (tmp_path / "images").mkdir()
    image = nibabel.Nifti1Image(np.arange(216, dtype=np.int16).reshape(6, 6, 6), np.eye(4))
    nibabel.save(image, tmp_path / "images" / "a_0000.nii.gz")
    evaluated("--images", tmp_path / "images")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count('<figure class="planes">') == 3  # the only case is the worst, the median and the best
    assert "the patient&#39;s right is on the left" in page
    assert "without its image" not in page


def test_the_page_says_nothing_of_planes_where_there_are_images_only(
    tmp_path: Path, mask_folders: Callable[..., Path], evaluated: Callable[..., Rows]
) -> None:
    mask_folders(truth={"a": SQUARE}, predictions={"a": MOVED})
    evaluated()
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert '<figure class="planes">' not in page
    assert "radiological" not in page.lower()


def test_reorienting_a_volume_is_recorded_in_the_note(tmp_path: Path, evaluated: Callable[..., Rows]) -> None:
    affine = np.diag([-1.0, 1, 1, 1])
    affine[0, 3] = 5
    volumes(tmp_path, affine)
    row = evaluated()["a"]
    assert (float(row["dice"]), row["note"]) == (1.0, "reoriented from LAS to RAS, no value changed")


def test_a_volume_with_another_grid_fails_unless_headers_are_ignored(
    tmp_path: Path, evaluated: Callable[..., Rows]
) -> None:
    volumes(tmp_path, np.eye(4) * [[1], [1], [1.5], [1]])
    assert "1x1x1.5 mm" in evaluated(code=6)["a"]["note"]
    row = evaluated("--ignore-headers", "--overwrite")["a"]
    assert float(row["dice"]) == pytest.approx(2 / 3)


def unplaced_volumes(tmp_path: Path, *sides: str) -> None:
    """Equal voxels of 2 x 1 x 3 mm on both sides; headers of `sides` do not say where their axes point."""
    mask = np.zeros((6, 6, 6), dtype=np.uint8)
    mask[0:3, 2:4, 2:4] = 1
    for side in ("truth", "predictions"):
        image = nibabel.Nifti1Image(mask, np.diag([2.0, 1, 3, 1]))
        if side in sides:
            image.set_sform(None, code=0)
            image.set_qform(None, code=0)
        (tmp_path / side).mkdir()
        nibabel.save(image, tmp_path / side / "a.nii.gz")


def test_volumes_without_orientation_are_compared_voxel_by_voxel_in_mm_and_that_is_said(
    tmp_path: Path, evaluated: Callable[..., Rows], capsys: pytest.CaptureFixture[str]
) -> None:
    unplaced_volumes(tmp_path, "truth", "predictions")
    row = evaluated()["a"]
    assert (float(row["dice"]), row["unit"], row["spacing"]) == (1.0, "mm", "2x1x3")
    assert row["note"] == "neither header says where the axes point: compared voxel by voxel"
    assert "such as a: neither header says" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("side", ["truth", "predictions"])
def test_a_volume_with_and_one_without_orientation_are_not_compared_unasked(
    tmp_path: Path, evaluated: Callable[..., Rows], side: str
) -> None:
    unplaced_volumes(tmp_path, side)
    row = evaluated(code=6)["a"]
    assert (row["status"], float(row["dice"])) == ("failed", 0.0)
    assert "sform_code and qform_code are 0" in row["note"]
    assert "--ignore-headers compares voxel by voxel" in row["note"]
    row = evaluated("--ignore-headers", "--overwrite")["a"]
    assert float(row["dice"]) == 1.0
    assert row["note"] == "headers ignored, though one of them does not say where the axes point"


def test_the_max_definition_is_named_in_the_table_and_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], save_mask: Save, evaluated: Callable[..., Rows]
) -> None:
    save_mask(tmp_path / "truth" / "a.png", SQUARE)
    save_mask(tmp_path / "predictions" / "a.png", MOVED)
    evaluated("--hd95", "max")
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["policy"]["hd95"] == "max"
    assert "larger of the two directed" in capsys.readouterr().out


def test_json_prints_nothing_but_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Run, save_mask: Save
) -> None:
    save_mask(tmp_path / "truth" / "a.png", SQUARE)
    save_mask(tmp_path / "predictions" / "a.png", MOVED)
    assert run("evaluate", tmp_path / "predictions", tmp_path / "truth", "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"]["cases"] == 1


def test_a_report_folder_that_is_not_empty_needs_overwrite(tmp_path: Path, run: Run, save_mask: Save) -> None:
    save_mask(tmp_path / "truth" / "a.png", SQUARE)
    save_mask(tmp_path / "report" / "precious.png", SQUARE)
    arguments = ("evaluate", tmp_path / "truth", tmp_path / "truth", "-o", tmp_path / "report")
    assert run(*arguments) == 2
    assert run(*arguments, "--overwrite") == 0
    assert (tmp_path / "report" / "precious.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--metrics", "dise"], 2, "did you mean 'dice'"),
        (["--policy", "nnnet"], 2, "did you mean 'nnunet'"),
        (["--spacing", "0"], 2, "--spacing 0"),
        (["--hd95", "mean"], 2, "pooled"),
        (["--resample", "linear"], 2, "nearest"),
    ],
)
def test_invalid_options_are_a_one_line_error(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
    run: Run,
    save_mask: Save,
) -> None:
    save_mask(tmp_path / "truth" / "a.png", SQUARE)
    assert run("evaluate", tmp_path / "truth", tmp_path / "truth", *arguments) == code
    assert message in capsys.readouterr().err


def test_evaluate_imports_no_torch(tmp_path: Path, run: Run, save_mask: Save) -> None:
    save_mask(tmp_path / "truth" / "a.png", SQUARE)
    code = (
        "import sys; from guidino_cli.commands.evaluate import EvaluateOptions, run; from pathlib import Path;"
        f"run(Path({str(tmp_path / 'truth')!r}), Path({str(tmp_path / 'truth')!r}), EvaluateOptions());"
        "assert not {'torch', 'transformers', 'matplotlib', 'medpy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_pixels_that_prepared_data_ignores_do_not_count(
    tmp_path: Path, run: Run, save_mask: Save, read_rows: Callable[[Path], list[dict[str, str]]]
) -> None:
    """Of 8 predicted columns 4 are true and 4 do not count."""
    truth, prediction = np.zeros(SIZE), np.zeros(SIZE)
    truth[:, :4], truth[:, 4:8], prediction[:, :8] = 1, 255, 1
    mask = save_mask(tmp_path / "data" / "masks" / "a.png", truth)
    image = save_mask(tmp_path / "images" / "a.png", truth)
    case = Case("a", image, mask, "test", None, "a", SIZE, None)
    save_manifest(Manifest("toy", ["background", "polyp"], [case], {}, 255), tmp_path / "data")
    save_mask(tmp_path / "predictions" / "a.png", prediction)
    assert run("evaluate", tmp_path / "predictions", tmp_path / "data", "-o", tmp_path / "report") == 0
    assert [float(row["dice"]) for row in read_rows(tmp_path / "report" / "per_case.csv")] == [1]
    # Recorded as if it had been an option, so that no baseline without it is compared with this one.
    assert json.loads((tmp_path / "report" / "report.json").read_text())["settings"]["ignore_label"] == 255


def test_prepared_data_gives_the_truth_of_its_split_with_names_and_groups(
    tmp_path: Path, run: Run, save_mask: Save
) -> None:
    cases = [
        Case(
            id=f"{split}-{name}",
            image=save_mask(tmp_path / "images" / split / f"{name}.png", SQUARE),
            mask=save_mask(tmp_path / "data" / "masks" / f"{split}-{name}.png", SQUARE),
            split=split,
            fold=None,
            group=name,
            size_hw=SIZE,
            foreground=None,
        )
        for split, name in (("train", "a"), ("test", "a"), ("test", "b"))
    ]
    save_manifest(Manifest("toy", ["background", "polyp"], cases), tmp_path / "data")
    save_mask(tmp_path / "predictions" / "a.png", SQUARE)  # the name of the image, as `predict` writes it
    arguments = ("-o", tmp_path / "report", "--group", "group")
    assert run("evaluate", tmp_path / "predictions", tmp_path / "data", *arguments) == 6
    dice = summary(tmp_path)["polyp", "dice"]
    assert (dice["mean"], dice["used"], dice["total"]) == (0.5, 2, 2)


def test_the_class_of_an_empty_prediction_is_named_and_counts_are_said_to_be_of_pairs(
    tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows], capsys: pytest.CaptureFixture[str]
) -> None:
    """Case a lacks the cup (class 2), case b is right."""
    both = block(slice(2, 6), slice(2, 6)) + block(slice(8, 10), slice(2, 6), 2)
    for name in "ab":
        save_mask(tmp_path / "truth" / f"{name}.png", both)
    save_mask(tmp_path / "predictions" / "a.png", SQUARE)
    save_mask(tmp_path / "predictions" / "b.png", both)
    evaluated("--classes", "background,disc,cup")
    printed = " ".join(capsys.readouterr().out.split())
    assert "a: IoU 0.5000, Dice 0.5000, HD95 px 10.00, prediction empty (cup)" in printed
    assert "empty among 4 pairs of a case and a class: both 0, only truth 0, only prediction 1 (cup 1)" in printed
    assert "distances measured in 3 of 4 pairs of a case and a class" in printed
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "n 4/4 (cases x classes)" in page


def test_cases_are_listed_by_their_numbers_in_every_file(
    tmp_path: Path, save_mask: Save, evaluated: Callable[..., Rows], capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ("truth", "predictions"):
        for number in (1, 2, 10, 11):
            save_mask(tmp_path / side / f"case{number}.png", SQUARE)
    wanted = ["case1", "case2", "case10", "case11"]
    assert list(evaluated()) == wanted
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert [case["case"] for case in report["cases"]] == wanted
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    places = [page.index(f"<td>{name}</td>") for name in wanted]
    assert places == sorted(places)
    printed = capsys.readouterr().out
    worst = printed[printed.index("worst cases") :]
    assert [worst.index(f"{name}:") for name in wanted] == sorted(worst.index(f"{name}:") for name in wanted)
