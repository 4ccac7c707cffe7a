"""The picture of paired differences."""

import numpy as np

from guidino_cli.plots.comparison import Differences, difference_figure


def _texts(values: list[float]) -> list[str]:
    panel = Differences("a", "b", "Dice", np.array(values), True, float(np.mean(values)), (0.0, 0.0))
    return [text.get_text() for text in difference_figure([panel]).axes[0].texts]


def test_tiny_differences_are_called_tiny() -> None:
    assert _texts([0.0001, -0.0003]) == ["no difference above 0.0003"]


def test_differences_that_can_be_seen_need_no_note() -> None:
    assert _texts([0.2, -0.1]) == []
