"""Policies for empty and missing masks."""

from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.errors import ConfigError
from guidino_cli.evaluation.evaluator import EvaluationConfig, evaluate
from guidino_cli.evaluation.matching import match_predictions
from guidino_cli.evaluation.summary import EvaluationResult
from guidino_cli.evaluation.truths import find_truths
from guidino_cli.evaluation.types import POLICIES, get_policy

SIZE = (30, 40)  # diagonal 50


def result(tmp_path: Path, policy: str) -> EvaluationResult:
    """Five cases: half right, both empty, truth empty, prediction empty, missing."""
    square, moved = np.zeros((2, *SIZE), dtype=np.uint8)
    square[2:6, 2:6], moved[2:6, 4:8] = 1, 1
    empty = np.zeros(SIZE, dtype=np.uint8)
    cases = {"a": (square, moved), "b": (empty, empty), "c": (empty, moved), "d": (square, empty), "e": (square, None)}
    for name, (truth, prediction) in cases.items():
        for side, mask in (("truth", truth), ("predictions", prediction)):
            (tmp_path / side).mkdir(exist_ok=True)
            if mask is not None:
                Image.fromarray(mask).save(tmp_path / side / f"{name}.png")
    truths = find_truths(tmp_path / "truth", split="test")
    config = EvaluationConfig(metrics=("dice", "hd95", "precision"), policy=get_policy(policy))
    return evaluate(match_predictions(tmp_path / "predictions", truths), truths, config)


@pytest.mark.parametrize(
    ("policy", "dice", "hd95"),
    [
        ("guidino", [0.5, 1, 0, 0, 0], [2, 0, 50, 50, 50]),
        ("nnunet", [0.5, nan, 0, 0, nan], [2, nan, nan, nan, nan]),
        ("monai", [0.5, nan, nan, 0, nan], [2, nan, nan, nan, nan]),
        ("guidino-paper", [0.5, nan, 0, 0, nan], [2, nan, nan, nan, nan]),
    ],
)
def test_each_policy_gives_the_documented_values(
    tmp_path: Path, policy: str, dice: list[float], hd95: list[float]
) -> None:
    found = result(tmp_path, policy)
    values = {name: [case.scores[0].values[name] for case in found.cases] for name in ("dice", "hd95")}
    np.testing.assert_allclose(values["dice"], dice)
    np.testing.assert_allclose(values["hd95"], hd95)
    summary = found.statistics("foreground", "dice")
    assert (summary.used, summary.total) == (sum(not isnan(value) for value in dice), 5)
    assert summary.mean == pytest.approx(np.nanmean(dice))


def test_predicting_nothing_does_not_raise_the_precision(tmp_path: Path) -> None:
    precision = [case.scores[0].values["precision"] for case in result(tmp_path, "guidino").cases]
    assert precision == [0.5, 1.0, 0.0, 0.0, 0.0]


def test_a_policy_is_described_in_one_line() -> None:
    arguments = POLICIES["monai"].describe()
    assert "both empty: left out" in arguments
    assert "prediction empty: 0 where undefined, distance left out" in arguments


def test_a_policy_of_instances_speaks_of_their_metrics() -> None:
    assert POLICIES["guidino"].describe_instances().split("; ") == [
        "both empty: ARE 0, VOI 0",
        "one empty: ARE 1, VOI as measured",
        "missing: ARE 1, VOI = log2 of the number of pixels",
    ]
    monai = POLICIES["monai"].describe_instances()
    assert "truth empty: left out; prediction empty: ARE 1" in monai
    assert monai.endswith("missing: left out")


def test_an_unknown_policy_is_an_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'monai'"):
        get_policy("monay")
