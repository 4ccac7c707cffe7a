"""Times in words."""

from typing import Any

import pytest

from guidino_cli.progress import format_duration, pluralize


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (172_800, "2.0 days")],
)
def test_a_time_is_said_in_one_number(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((0, "case"), "0 cases"),
        ((1, "case"), "1 case"),
        ((1200, "case"), "1,200 cases"),
        ((2, "pass", "passes"), "2 passes"),
    ],
)
def test_counted_words_agree_with_their_number(words: tuple[Any, ...], said: str) -> None:
    assert pluralize(*words) == said
