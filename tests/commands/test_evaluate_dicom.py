"""`guidino evaluate` on DICOM SEG files, as truth and as predictions."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_files import make_segmentation, plane

Rows = dict[str, dict[str, str]]
# RAS affine of what `make_segmentation` writes: 0.5 x 0.75 x 2 mm from LPS (-10, -20, 0).
AFFINE = np.array([[-0.5, 0, 0, 10], [0, -0.75, 0, 20], [0, 0, 2, 0], [0, 0, 0, 1.0]])


@pytest.fixture
def evaluated(
    tmp_path: Path, run: Callable[..., int], read_rows: Callable[[Path], list[dict[str, str]]]
) -> Callable[..., Rows]:
    """Run on tmp_path/predictions and tmp_path/truth; the rows of per_case.csv by case."""

    def call(*arguments: object, code: int = 0) -> Rows:
        for name in ("predictions", "truth"):
            assert any((tmp_path / name).iterdir())
        out = tmp_path / "report"
        metrics = ("--metrics", "dice")
        found = run("evaluate", tmp_path / "predictions", tmp_path / "truth", "-o", out, *metrics, *arguments)
        assert found == code
        return {row["case"]: row for row in read_rows(out / "per_case.csv")} if out.exists() else {}

    return call


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Empty folders of truth and predictions."""
    truth, predictions = tmp_path / "truth", tmp_path / "predictions"
    truth.mkdir()
    predictions.mkdir()
    return truth, predictions


def save_nifti(path: Path, slices: dict[int, np.ndarray], *, depth: int = 5) -> None:
    labels = np.zeros((6, 4, depth), dtype=np.uint8)
    for number, pixels in slices.items():
        labels[..., number] = pixels.T
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), path)


def test_slices_of_the_prediction_beyond_those_of_the_truth_count(
    folders: tuple[Path, Path], evaluated: Callable[..., Rows]
) -> None:
    truth, predictions = folders
    make_segmentation(truth / "a.dcm", [(1, 2.0, plane(0, 0))])
    make_segmentation(predictions / "a.dcm", [(1, 0.0, plane(0, 0)), (1, 2.0, plane(0, 0)), (1, 8.0, plane(0, 0))])
    # 4 voxels are right, 8 are false positives in slices that the truth leaves out: 2 * 4 / (4 + 12).
    assert float(evaluated()["a"]["dice"]) == pytest.approx(0.5)


def test_slices_of_the_truth_beyond_those_of_the_prediction_count(
    folders: tuple[Path, Path], evaluated: Callable[..., Rows]
) -> None:
    truth, predictions = folders
    make_segmentation(truth / "a.dcm", [(1, 0.0, plane(0, 0)), (1, 2.0, plane(0, 0)), (1, 8.0, plane(0, 0))])
    make_segmentation(predictions / "a.dcm", [(1, 2.0, plane(0, 0))])
    assert float(evaluated()["a"]["dice"]) == pytest.approx(0.5)


def test_volumes_that_do_not_touch_have_dice_zero(folders: tuple[Path, Path], evaluated: Callable[..., Rows]) -> None:
    truth, predictions = folders
    make_segmentation(truth / "a.dcm", [(1, 0.0, plane(0, 0))])
    make_segmentation(predictions / "a.dcm", [(1, 8.0, plane(0, 0))])
    assert float(evaluated()["a"]["dice"]) == 0.0


@pytest.mark.parametrize("side", ["truth", "predictions"])
def test_a_segmentation_is_compared_with_a_nifti_file_of_the_whole_volume(
    side: str, folders: tuple[Path, Path], evaluated: Callable[..., Rows]
) -> None:
    truth, predictions = folders
    dicom, nifti = (truth, predictions) if side == "truth" else (predictions, truth)
    make_segmentation(dicom / "a.dcm", [(1, 2.0, plane(0, 0))])
    save_nifti(nifti / "a.nii.gz", {1: plane(0, 0), 4: plane(2, 2)})
    # 4 voxels in common, 4 + 8 in all.
    assert float(evaluated()["a"]["dice"]) == pytest.approx(2 * 4 / 12)


def test_resampled_predictions_count_beyond_the_slices_of_the_truth(
    folders: tuple[Path, Path], evaluated: Callable[..., Rows]
) -> None:
    truth, predictions = folders
    make_segmentation(truth / "a.dcm", [(1, 4.0, plane(0, 0))])
    # Slices of 4 mm at z = 0, 4 and 8 fall on slices 0, 2 and 4 of 2 mm, and the nearest ones between them.
    labels = np.zeros((6, 4, 3), dtype=np.uint8)
    labels[..., 2] = plane(0, 0).T
    labels[..., 1] = plane(0, 0).T
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE @ np.diag([1, 1, 2, 1])), predictions / "a.nii.gz")
    dice = float(evaluated("--resample", "nearest")["a"]["dice"])
    # Right only in slice 2; what was predicted at z = 8 must not be lost.
    assert dice < 1.0


def test_segments_that_change_their_numbers_are_refused(
    folders: tuple[Path, Path], evaluated: Callable[..., Rows], capsys: pytest.CaptureFixture[str]
) -> None:
    truth, predictions = folders
    make_segmentation(truth / "a.dcm", [(1, 0.0, plane(0, 0)), (2, 0.0, plane(2, 2))])
    frames = [(2, 0.0, plane(0, 0)), (1, 0.0, plane(2, 2))]
    make_segmentation(predictions / "a.dcm", frames, names={1: "tumour", 2: "liver"})
    evaluated(code=3)
    error = capsys.readouterr().err.strip()
    assert "a.dcm: segment 1 is tumour, in " in error
    assert error.count("\n") == 0
    evaluated("--binary")


def test_overlapping_segments_fail_their_case_alone(folders: tuple[Path, Path], evaluated: Callable[..., Rows]) -> None:
    truth, predictions = folders
    for name in ("a", "b"):
        make_segmentation(truth / f"{name}.dcm", [(1, 0.0, plane(0, 0))])
    make_segmentation(predictions / "a.dcm", [(1, 0.0, plane(0, 0))])
    make_segmentation(predictions / "b.dcm", [(1, 0.0, plane(0, 0)), (2, 0.0, plane(0, 0))])
    rows = evaluated(code=6)
    assert (rows["a"]["status"], float(rows["a"]["dice"])) == ("ok", 1.0)
    assert (rows["b"]["status"], float(rows["b"]["dice"])) == ("failed", 0.0)


def test_an_image_in_place_of_a_segmentation_is_named(
    folders: tuple[Path, Path], evaluated: Callable[..., Rows], capsys: pytest.CaptureFixture[str]
) -> None:
    truth, predictions = folders
    make_segmentation(truth / "a.dcm", [(1, 0.0, plane(0, 0))])
    make_segmentation(
        predictions / "a.dcm", [(1, 0.0, plane(0, 0))], SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT"
    )
    evaluated(code=3)
    assert "is a DICOM file of modality CT, expected a segmentation (SEG)" in capsys.readouterr().err


def test_one_segment_is_scored_by_its_label_whatever_its_number(
    folders: tuple[Path, Path], evaluated: Callable[..., Rows]
) -> None:
    truth, predictions = folders
    # The truth's segments overlap, and the prediction numbers them the other way round.
    make_segmentation(truth / "a.dcm", [(1, 0.0, plane(0, 0)), (2, 0.0, plane(0, 1))])
    frames = [(2, 0.0, plane(0, 0)), (1, 0.0, plane(2, 2))]
    make_segmentation(predictions / "a.dcm", frames, names={1: "tumour", 2: "liver"})
    assert float(evaluated("--segment", "liver")["a"]["dice"]) == 1.0
    assert float(evaluated("--segment", "tumour", "--overwrite")["a"]["dice"]) == 0.0


def test_a_file_without_the_segment_fails_alone(folders: tuple[Path, Path], evaluated: Callable[..., Rows]) -> None:
    truth, predictions = folders
    for name in ("a", "b"):
        make_segmentation(truth / f"{name}.dcm", [(1, 0.0, plane(0, 0))])
    make_segmentation(predictions / "a.dcm", [(1, 0.0, plane(0, 0))])
    make_segmentation(predictions / "b.dcm", [(1, 0.0, plane(0, 0))], names={1: "spleen"})
    rows = evaluated("--segment", "liver", code=6)
    assert [rows[case]["status"] for case in "ab"] == ["ok", "failed"]
