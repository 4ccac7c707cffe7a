"""Durations, counts and warnings as text."""

from typing import Any

import pytest

from guidino_cli.progress import format_duration, join_first, log_warning, pluralize


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (172_800, "2.0 days")],
)
def test_a_duration_is_formatted_in_one_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, "case"), "0 cases"),
        ((1, "case"), "1 case"),
        ((1200, "case"), "1,200 cases"),
        ((2, "pass", "passes"), "2 passes"),
    ],
)
def test_a_noun_agrees_with_its_count(arguments: tuple[Any, ...], text: str) -> None:
    assert pluralize(*arguments) == text


def test_a_warning_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log_warning("the disk is almost full")
    assert capsys.readouterr().err == "guidino: warning: the disk is almost full\n"


def test_the_first_items_are_joined_with_the_number_of_the_others() -> None:
    assert join_first(["a", "b"]) == "a, b"
    assert join_first(list("abc"), "; ", limit=2) == "a; b and 1 more"
    assert join_first([]) == ""
