"""What the scores of a set come to."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Maker = Callable[..., Path]


def test_mean_sample_deviation_and_range_are_those_of_paper_and_pencil(trainings, train, out: Path) -> None:
    train(trainings([0.6, 0.7, 0.8]), seeds="3")
    found = json.loads((out / "runs.json").read_text())["val_dice"]
    assert found == pytest.approx({"runs": 3, "of": 3, "mean": 0.7, "sd": 0.1, "min": 0.6, "max": 0.8})


def test_one_run_has_no_spread(trainings, train, out: Path) -> None:
    train(trainings([0.6]), seeds="1")
    assert json.loads((out / "runs.json").read_text())["val_dice"]["sd"] is None
