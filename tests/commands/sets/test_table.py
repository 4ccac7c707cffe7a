"""A set on the terminal."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

Maker = Callable[..., Path]


def test_the_table_has_a_row_a_run_and_says_what_the_scores_are(
    trainings, train, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(trainings([0.6, 0.7, 0.8]), folds="3")
    said = capsys.readouterr().out
    assert [line.split() for line in said.splitlines()[1:4]] == [
        [f"fold-{i}", score, "3", "5", "1.0"] for i, score in enumerate(("0.6000", "0.7000", "0.8000"))
    ]
    assert "mean val Dice 0.7000 +- 0.1000 (sample standard deviation) of 3 runs" in said
    assert "the fold that selected it: they flatter" in said
    assert all(len(line) <= 80 for line in said.splitlines() if str(out) not in line)
    with (out / "runs.csv").open() as file:
        assert [row["val_dice"] for row in csv.DictReader(file)] == ["0.6", "0.7", "0.8"]
