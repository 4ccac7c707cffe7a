"""A comparison as text."""

import numpy as np

from guidino_cli.evaluation.comparison import Contest
from guidino_cli.evaluation.comparison_files import blocks


def _mean(value: float) -> str:
    contest = Contest("a", "b", "dice", np.array([value]), value, value, value, 1, 0, 0, 1.0, 1.0, 0.5)
    ((row,),) = blocks([contest], "mm").values()
    return row[2]


def test_a_difference_is_told_to_three_places() -> None:
    assert _mean(0.0312) == "+0.031"


def test_a_smaller_difference_is_not_called_none() -> None:
    assert _mean(-0.00004) == "-4e-05"


def test_no_difference_is_nought() -> None:
    assert _mean(0.0) == "+0.000"
