"""`guidino evaluate` measures the volume of false objects in ml, and counts and names cases without a lesion."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from guidino_cli.evaluation.report.text import format_metric, metric_label

VOXEL_ML = 4 * 4 * 5 / 1000  # 0.08

Rows = dict[str, dict[str, str]]


def save(path: Path, *lesions: tuple[slice, int]) -> None:
    """A volume of 4 x 4 x 5 mm voxels with lesions one voxel thick: a slice along x at a place of y."""
    labels = np.zeros((10, 10, 10), dtype=np.uint8)
    for extent, place in lesions:
        labels[extent, place, place] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([4.0, 4.0, 5.0, 1.0])), path)


@pytest.fixture
def scored(tmp_path: Path, run: Callable[..., int], read_rows: Callable[[Path], list[dict[str, str]]]) -> Callable:
    """Score tmp_path/predictions; rows by case, and report.json."""

    def call(*arguments: object, code: int = 0) -> tuple[Rows, dict]:
        options = ("--metrics", "dice,fp_volume,fn_volume", "-o", tmp_path / "report")
        assert run("evaluate", tmp_path / "predictions", tmp_path / "truth", *options, *arguments) == code
        report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
        return {row["case"]: row for row in read_rows(tmp_path / "report" / "per_case.csv")}, report

    return call


@pytest.fixture
def four_cases(tmp_path: Path) -> None:
    """Hit and missed lesions, a lesion only in the truth, one only in the prediction, and none in either."""
    lesions = {
        # 3 voxels found in part, 2 missed; 4 predicted elsewhere.
        "both": (((slice(0, 3), 1), (slice(0, 2), 5)), ((slice(2, 6), 1), (slice(0, 4), 8))),
        "missed": (((slice(0, 5), 3),), ()),
        "healthy": ((), ((slice(0, 6), 2),)),
        "empty": ((), ()),
    }
    for case, (true, predicted) in lesions.items():
        save(tmp_path / "truth" / f"{case}.nii.gz", *true)
        save(tmp_path / "predictions" / f"{case}.nii.gz", *predicted)


@pytest.mark.usefixtures("four_cases")
def test_volumes_are_those_of_whole_objects_in_ml(scored: Callable) -> None:
    rows, report = scored()
    false_positive = {case: float(row["fp_volume"]) for case, row in rows.items()}
    assert false_positive == pytest.approx({"both": 4 * VOXEL_ML, "missed": 0, "healthy": 6 * VOXEL_ML, "empty": 0})
    missed = {case: row["fn_volume"] and float(row["fn_volume"]) for case, row in rows.items()}
    assert missed == {
        "both": pytest.approx(2 * VOXEL_ML),
        "missed": pytest.approx(5 * VOXEL_ML),
        "healthy": "",
        "empty": "",
    }
    summary = {line["metric"]: line for line in report["summary"]}
    assert summary["fp_volume"]["mean"] == pytest.approx(10 * VOXEL_ML / 4)
    assert summary["fn_volume"]["mean"] == pytest.approx(7 * VOXEL_ML / 2)
    assert {summary[name]["unit"] for name in ("fp_volume", "fn_volume")} == {"ml"}
    assert (summary["fn_volume"]["used"], summary["fn_volume"]["total"]) == (2, 4)


@pytest.mark.usefixtures("four_cases")
def test_cases_without_a_lesion_are_counted_and_named(scored: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    _, report = scored()
    assert report["cases_without_truth"] == {"foreground": ["empty", "healthy"]}
    assert "no foreground in the truth of 2 of 4 cases: empty, healthy" in " ".join(capsys.readouterr().out.split())


@pytest.mark.usefixtures("four_cases")
def test_autopet_has_no_dice_without_a_lesion_but_its_false_positives(scored: Callable) -> None:
    rows, report = scored("--policy", "autopet")
    assert [rows[case]["dice"] for case in ("missed", "healthy", "empty")] == ["0.0", "", ""]
    assert float(rows["healthy"]["fp_volume"]) == pytest.approx(6 * VOXEL_ML)
    assert {line["metric"]: line["used"] for line in report["summary"]} == {"dice": 2, "fp_volume": 4, "fn_volume": 2}


@pytest.mark.usefixtures("four_cases")
def test_a_missing_prediction_misses_everything_and_marks_all_background(tmp_path: Path, scored: Callable) -> None:
    (tmp_path / "predictions" / "missed.nii.gz").unlink()
    rows, _ = scored(code=6)
    assert float(rows["missed"]["fn_volume"]) == pytest.approx(5 * VOXEL_ML)
    assert float(rows["missed"]["fp_volume"]) == pytest.approx(995 * VOXEL_ML)


def test_images_have_no_volume_and_that_is_said_in_one_line(
    tmp_path: Path, run: Callable[..., int], save_mask: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ("truth", "predictions"):
        save_mask(tmp_path / side / "a.png", np.eye(8, dtype=np.uint8))
    assert run("evaluate", tmp_path / "predictions", tmp_path / "truth", "--metrics", "fp_volume") == 3
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "a.png: is an image, but fp_volume and fn_volume are in ml of volumes" in message


def test_volumes_are_printed_with_their_unit() -> None:
    assert (metric_label("fp_volume", "mm"), format_metric(1.234, "fp_volume")) == ("FP volume ml", "1.23")
