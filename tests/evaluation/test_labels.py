"""Values of mask files: labels are what the file says, and no value that is not finite becomes a class."""

from collections.abc import Callable, Mapping
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from guidino_cli.errors import DataError
from guidino_cli.evaluation.evaluator import EvaluationConfig, evaluate
from guidino_cli.evaluation.masks import ReadOptions
from guidino_cli.evaluation.matching import match_predictions
from guidino_cli.evaluation.summary import EvaluationResult
from guidino_cli.evaluation.truths import find_truths

Save = Callable[[Path, np.ndarray], object]


def save_nifti(path: Path, values: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(values.reshape(*values.shape, 1), np.eye(4)), path.with_suffix(".nii"))


def save_tiff(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path.with_suffix(".tif"))


def save_png(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values.astype(np.uint8)).save(path.with_suffix(".png"))


def save_array(path: Path, values: np.ndarray) -> None:
    np.save(path.with_suffix(".npy"), values)


def score(
    place: Path,
    save: Save,
    predictions: Mapping[str, np.ndarray],
    truths: Mapping[str, np.ndarray],
    config: EvaluationConfig | None = None,
) -> EvaluationResult:
    for side, masks in (("p", predictions), ("t", truths)):
        (place / side).mkdir()
        for name, values in masks.items():
            save(place / side / name, values)
    truth = find_truths(place / "t", split="test")
    return evaluate(match_predictions(place / "p", truth), truth, config or EvaluationConfig(metrics=("dice",)))


def dice(result: EvaluationResult) -> dict[str, float]:
    return {row.target: row.statistics.mean for row in result.rows}


def two_labels(first: int, second: int) -> np.ndarray:
    """Ten pixels: four of the first label, two of the second, four of background."""
    return np.array([[first] * 4 + [0], [second] * 2 + [0] * 3], dtype=np.int16)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("save", [save_nifti, save_tiff, save_array])
@pytest.mark.parametrize("option", ["threshold", "binary", "labels"])
def test_a_prediction_with_a_value_that_is_not_finite_is_a_failed_case(
    tmp_path: Path, bad: float, save: Save, option: str
) -> None:
    truth = np.array([[1, 1, 0, 0]], dtype=np.float32)
    broken = np.array([[1, 1, bad, 0]], dtype=np.float32)
    options = {
        "threshold": ReadOptions(threshold=0.5),
        "binary": ReadOptions(binary=True),
        "labels": ReadOptions(),
    }[option]
    config = EvaluationConfig(metrics=("dice",), truth=options, predictions=options)
    result = score(tmp_path, save, {"a": truth, "b": broken}, {"a": truth, "b": truth}, config)
    assert dice(result) == {"foreground": 0.5}
    assert [case.is_problem for case in result.cases] == [False, True]
    assert "1 of 4 pixels are not finite" in result.cases[1].note


def test_predictions_of_which_none_is_finite_all_score_zero_with_a_threshold(tmp_path: Path) -> None:
    truth = {"a": np.array([[1, 0]], dtype=np.float32)}
    options = ReadOptions(threshold=0.5)
    config = EvaluationConfig(metrics=("dice",), truth=options, predictions=options)
    result = score(tmp_path, save_tiff, {"a": np.full((1, 2), np.nan, dtype=np.float32)}, truth, config)
    assert dice(result) == {"foreground": 0.0}


@pytest.mark.parametrize(("first", "second"), [(2, 258), (1, 256), (1001, 1002), (205, 850), (1, 8000)])
def test_two_swapped_labels_score_zero_and_no_other_label_is_a_class(tmp_path: Path, first: int, second: int) -> None:
    predictions, truths = {"a": two_labels(second, first)}, {"a": two_labels(first, second)}
    assert dice(score(tmp_path, save_nifti, predictions, truths)) == {
        f"class_{first}": 0.0,
        f"class_{second}": 0.0,
        "mean of classes": 0.0,
    }


def test_label_256_is_not_background(tmp_path: Path) -> None:
    found = dice(score(tmp_path, save_nifti, {"a": two_labels(1, 0)}, {"a": two_labels(1, 256)}))
    assert found == {"class_1": 1.0, "class_256": 0.0, "mean of classes": 0.5}


@pytest.mark.parametrize("save", [save_nifti, save_png])
def test_label_2_against_label_1_scores_zero_for_each(tmp_path: Path, save: Save) -> None:
    found = dice(score(tmp_path, save, {"a": two_labels(2, 0)}, {"a": two_labels(1, 0)}))
    assert found == {"class_1": 0.0, "class_2": 0.0, "mean of classes": 0.0}


@pytest.mark.parametrize("save", [save_nifti, save_png])
def test_255_is_another_way_to_write_a_binary_mask(tmp_path: Path, save: Save) -> None:
    assert dice(score(tmp_path, save, {"a": two_labels(255, 0)}, {"a": two_labels(1, 0)})) == {"foreground": 1.0}


def test_whether_2_and_255_mean_the_same_is_asked(tmp_path: Path) -> None:
    predictions, truths = {"a": two_labels(2, 0)}, {"a": two_labels(255, 0)}
    with pytest.raises(DataError, match="--binary makes every value but 0 foreground on both sides"):
        score(tmp_path, save_png, predictions, truths)
    both = ReadOptions(binary=True)
    (tmp_path / "again").mkdir()
    config = EvaluationConfig(metrics=("dice",), truth=both, predictions=both)
    assert dice(score(tmp_path / "again", save_png, predictions, truths, config)) == {"foreground": 1.0}


def test_a_label_of_the_predictions_that_no_truth_has_is_a_class_with_score_zero(tmp_path: Path) -> None:
    found = dice(score(tmp_path, save_png, {"a": two_labels(1, 3)}, {"a": two_labels(1, 2)}))
    assert found == {"class_1": 1.0, "class_2": 0.0, "class_3": 0.0, "mean of classes": pytest.approx(1 / 3)}


def test_300_labels_keep_their_identity(tmp_path: Path) -> None:
    labels = np.arange(1, 301, dtype=np.int16).reshape(20, 15)
    found = dice(score(tmp_path, save_nifti, {"a": np.roll(labels, 1)}, {"a": labels}))
    assert len(found) == 301
    assert set(found.values()) == {0.0}


def test_regions_name_labels_by_their_values(tmp_path: Path) -> None:
    config = EvaluationConfig(metrics=("dice",), regions=(("heart", "205+850"), ("left", "205")))
    found = dice(score(tmp_path, save_nifti, {"a": two_labels(850, 205)}, {"a": two_labels(205, 850)}, config))
    assert found["heart"] == 1.0
    assert found["left"] == 0.0


@pytest.mark.parametrize("save", [save_nifti, save_array, save_tiff])
def test_labels_that_are_almost_whole_are_rounded_and_that_is_said_once(tmp_path: Path, save: Save) -> None:
    exact = two_labels(1, 2)
    inexact = {name: (exact * 0.99999).astype(np.float32) for name in "ab"}
    result = score(tmp_path, save, inexact, dict.fromkeys("ab", exact))
    assert dice(result) == {"class_1": 1.0, "class_2": 1.0, "mean of classes": 1.0}
    assert result.config.predictions.rule.why.count("off whole numbers are rounded") == 1
    assert "rounded" not in result.config.truth.rule.why


@pytest.mark.parametrize("fraction", [0.002, 0.5, 0.998])
@pytest.mark.parametrize("save", [save_nifti, save_array])
def test_a_fraction_is_never_rounded_to_a_label(tmp_path: Path, save: Save, fraction: float) -> None:
    exact = two_labels(1, 2)
    other = exact.astype(np.float32)
    other[0, 0] = fraction
    with pytest.raises(DataError, match="fractional values"):
        score(tmp_path, save, {"a": other}, {"a": exact})


def test_a_threshold_applies_to_the_stored_values(tmp_path: Path) -> None:
    """0.9995 lies below a threshold of 0.9999, although it is almost 1."""
    stored = np.array([[0.9995, 1.0, 0.0, 0.0]], dtype=np.float32)
    config = EvaluationConfig(metrics=("dice",), predictions=ReadOptions(threshold=0.9999))
    result = score(tmp_path, save_array, {"a": stored}, {"a": np.array([[0, 1, 0, 0]], dtype=np.uint8)}, config)
    assert dice(result) == {"foreground": 1.0}


@pytest.mark.parametrize("save", [save_nifti, save_png])
def test_masks_without_background_are_not_said_to_hold_0(tmp_path: Path, save: Save) -> None:
    mask = np.array([[1, 1, 2, 2]], dtype=np.uint8)
    result = score(tmp_path, save, {"a": mask}, {"a": mask})
    for rule in (result.config.truth.rule, result.config.predictions.rule):
        assert "1, 2 (no pixel is 0, the background)" in rule.why
        assert "0, 1, 2" not in rule.why


def test_1_in_the_truth_and_255_in_predictions_are_said_to_be_taken_for_the_same(tmp_path: Path) -> None:
    truth = np.array([[1, 1, 0, 0]], dtype=np.uint8)
    result = score(tmp_path, save_nifti, {"a": truth * 255}, {"a": truth})
    assert dice(result) == {"foreground": 1.0}
    assert "255 here and 1 in the truth are taken for the same foreground" in result.config.predictions.rule.why


def test_labels_that_nibabel_scales_on_writing_score_1(tmp_path: Path) -> None:
    """Floats stored as 16-bit integers with a slope: 1 and 2 come back with an error of about 1e-5."""

    def save_scaled(path: Path, values: np.ndarray) -> None:
        image = nibabel.Nifti1Image(values.reshape(*values.shape, 1).astype(np.float64), np.eye(4))
        image.header.set_data_dtype(np.int16)
        nibabel.save(image, path.with_suffix(".nii"))

    labels = two_labels(1, 2)
    save_scaled(tmp_path / "probe", labels)
    assert not np.isin(nibabel.load(tmp_path / "probe.nii").get_fdata(), labels).all()
    assert dice(score(tmp_path, save_scaled, {"a": labels}, {"a": labels}))["mean of classes"] == 1.0
