"""Paired differences as a picture: every case a bar, sorted, with the mean and its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SMALL = 0.01
_BETTER, _WORSE = "#0072B2", "#D55E00"


@dataclass(frozen=True)
class Differences:
    """One panel.

    Attributes:
        first: Name of the first set.
        second: Name of the second.
        label: What is subtracted, with its unit.
        values: One number a case, without NaN.
        higher_is_better: Which side is the better one.
        mean: Mean difference.
        ci: Its 95 % interval.
    """

    first: str
    second: str
    label: str
    values: np.ndarray
    higher_is_better: bool
    mean: float
    ci: tuple[float, float]


def difference_figure(panels: Sequence[Differences]) -> Figure:
    """Draw the panels below one another; blue bars are cases in which the second is better, orange ones the first."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 2.6 * len(panels) + 0.2), layout="constrained")
    for axes, panel in zip(np.ravel(figure.subplots(len(panels), 1, squeeze=False)), panels, strict=True):
        values = np.sort(panel.values)
        better = values > 0 if panel.higher_is_better else values < 0
        axes.bar(np.arange(len(values)), values, width=1.0, color=np.where(better, _BETTER, _WORSE))
        axes.axhline(0, color="black", linewidth=0.8)
        axes.axhspan(*panel.ci, color="black", alpha=0.12, linewidth=0)
        axes.axhline(panel.mean, color="black", linewidth=1.2, linestyle="--")
        gains, unequal = np.count_nonzero(better), np.count_nonzero(values)
        wins = f"{panel.second} better in {gains}, {panel.first} in {unequal - gains}, equal in {len(values) - unequal}"
        axes.set_title(f"{panel.label}, {panel.second} - {panel.first}: {wins}", fontsize=10, loc="left")
        largest = float(np.abs(values).max(initial=0))
        if 0 < largest < _SMALL:
            # The axis fills the panel whatever it spans: bars that look tall may mean nothing.
            axes.text(0.01, 0.97, f"no difference above {largest:.1g}", transform=axes.transAxes, va="top", fontsize=9)
        axes.set_ylabel(f"difference of {panel.label}", fontsize=9)
        axes.set_xticks([])
        axes.set_xlim(-0.5, max(len(values), 1) - 0.5)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xlabel("cases, sorted; dashed: mean, grey: its 95 % interval", fontsize=9)
    return figure
