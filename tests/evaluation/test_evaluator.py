"""An evaluation of whole folders: samples of values that turn out too small, and units that do not fit."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from guidino_cli.errors import DataError
from guidino_cli.evaluation.comparison import compare_all
from guidino_cli.evaluation.evaluator import EvaluationConfig, evaluate
from guidino_cli.evaluation.matching import match_predictions
from guidino_cli.evaluation.summary import MEAN_OF_CLASSES, EvaluationResult
from guidino_cli.evaluation.truths import find_truths


def write(folder: Path, masks: list[list[int]]) -> Path:
    folder.mkdir()
    for index, values in enumerate(masks):
        Image.fromarray(np.array([values], dtype=np.uint8)).save(folder / f"{index:03}.png")
    return folder


def score(predictions: Path, truth: Path, *metrics: str) -> EvaluationResult:
    truths = find_truths(truth, split="test")
    return evaluate(match_predictions(predictions, truths), truths, EvaluationConfig(metrics=metrics or ("dice",)))


def test_a_label_that_the_sample_missed_is_a_class_all_the_same(tmp_path: Path) -> None:
    """48 of 60 masks are looked at, never the last, which alone holds label 3."""
    masks = [[0, 1, 2]] * 59 + [[3, 1, 2]]
    result = score(write(tmp_path / "p", masks), write(tmp_path / "t", masks))
    assert [target.name for target in result.config.targets] == ["class_1", "class_2", "class_3"]
    assert result.statistics(MEAN_OF_CLASSES, "dice").mean == 1.0
    assert result.pooled["class_3"].tp == 1


def test_images_and_volumes_cannot_be_scored_together(tmp_path: Path) -> None:
    truth = write(tmp_path / "t", [[0, 1]])
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 2, 2), dtype=np.uint8), np.eye(4)), truth / "v.nii")
    with pytest.raises(DataError, match="give --spacing or score them apart"):
        score(truth, truth)


def test_every_two_of_three_results_are_compared(tmp_path: Path) -> None:
    """Dice of the two cases: 1 and 1 for a; 1 and 0 for b; 0 and 0 for c."""
    truth = write(tmp_path / "t", [[0, 1], [0, 1]])
    folders = {"a": [[0, 1], [0, 1]], "b": [[0, 1], [1, 0]], "c": [[1, 0], [1, 0]]}
    results = [(name, score(write(tmp_path / name, masks), truth)) for name, masks in folders.items()]
    found = compare_all(results)
    assert [(item.first, item.second, item.mean, item.wins) for item in found] == [
        ("a", "b", -0.5, 0), ("a", "c", -1.0, 0), ("b", "c", -0.5, 0),
    ]  # fmt: skip
    other = score(write(tmp_path / "d", [[0, 1]]), write(tmp_path / "u", [[0, 1]]))
    with pytest.raises(ValueError, match="different cases"):
        compare_all([*results, ("d", other)])
