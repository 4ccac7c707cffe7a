"""Which runs `--seeds` and `--folds` name."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guidino_cli.commands.sets.plan import parse_values
from guidino_cli.errors import ConfigError

Maker = Callable[..., Path]


@pytest.mark.parametrize(("text", "values"), [("3", [0, 1, 2]), ("4,7", [4, 7]), ("2,", [2])])
def test_a_number_is_how_many_and_a_list_is_which(text: str, values: list[int]) -> None:
    assert parse_values(text, "--seeds") == values


@pytest.mark.parametrize("text", ["0", "-1", "a", "1,1", "1;2", ",", ""])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        parse_values(text, "--seeds")
