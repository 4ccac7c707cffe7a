"""Which runs `--seeds` and `--folds` name, and the summary of their scores."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from guidino_cli.commands.run_sets.plan import parse_values
from guidino_cli.errors import ConfigError

Maker = Callable[..., Path]


@pytest.mark.parametrize(("text", "values"), [("3", [0, 1, 2]), ("4,7", [4, 7]), ("2,", [2])])
def test_a_number_is_a_count_and_a_list_names_the_values(text: str, values: list[int]) -> None:
    assert parse_values(text, "--seeds") == values


@pytest.mark.parametrize("text", ["0", "-1", "a", "1,1", "1;2", ",", "", "1001", "9" * 23])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        parse_values(text, "--seeds")


def test_mean_sample_deviation_and_range_match_a_hand_calculation(fake_runner, train, out: Path) -> None:
    train(fake_runner([0.6, 0.7, 0.8]), seeds="3")
    found = json.loads((out / "runs.json").read_text())["val_dice"]
    assert found == pytest.approx({"runs": 3, "of": 3, "mean": 0.7, "sd": 0.1, "min": 0.6, "max": 0.8})


def test_one_run_has_no_deviation(fake_runner, train, out: Path) -> None:
    train(fake_runner([0.6]), seeds="1")
    assert json.loads((out / "runs.json").read_text())["val_dice"]["sd"] is None
