"""Text of paired comparisons."""

import numpy as np
import pytest

from guidino_cli.evaluation.comparison import PairedComparison
from guidino_cli.evaluation.report.comparison import HEADINGS, comparison_tables


@pytest.mark.parametrize(
    ("mean", "text"),
    [
        (0.0312, "+0.031"),
        (-0.00004, "-4e-05"),  # smaller than the column shows, but not zero
        (0.0, "+0.000"),
    ],
)
def test_a_difference_is_written_with_three_decimals_and_never_rounded_to_zero(mean: float, text: str) -> None:
    comparison = PairedComparison("a", "b", "dice", "polyp", np.array([mean]), mean, mean, mean, 1, 0, 0, 1.0, 1.0, 0.5)
    ((block,),) = comparison_tables([comparison], "mm").values()
    target, (row,) = block
    assert target == "polyp"
    assert row[HEADINGS.index("diff")] == text
