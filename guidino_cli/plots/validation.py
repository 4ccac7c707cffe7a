"""What a trained run makes of some validation cases: a page to look at before believing a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np

from guidino_cli.plots.bars import bar_below
from guidino_cli.plots.colours import UNIT, Limits, guide_over
from guidino_cli.plots.panels import FAINT, INK, board, heading, legend_below, outline, panel_height, short, show
from guidino_cli.plots.thumbnails import thumbnail, thumbnail_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _GAP = 1.75, 0.08
_LEFT = 1.25
# Below this range, colours would show rounding only.
_FLAT = 1e-3


@dataclass(frozen=True)
class Row:
    """One case.

    Attributes:
        name: Case id.
        dice: Mean over the foreground classes.
        image: (H, W, 3) uint8.
        truth: (H, W) class indices.
        labels: (H, W) predicted class indices.
        guide: (H, W) in [0, 1], or None without a guide.
    """

    name: str
    dice: float
    image: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    guide: np.ndarray | None


def validation_grid(rows: Sequence[Row], *, name: str, classes: Sequence[str]) -> Figure:
    """One row a case: image, outlined truth, guide where there is one, outlined prediction.

    Args:
        rows: At least one; either all have a guide or none.
        name: Heading, such as the name of the run.
        classes: Class names, the background first.

    Returns:
        A figure that belongs to no window; save it with `savefig`.
    """
    has_guide = rows[0].guide is not None
    titles = ["image", "truth", "guide", "prediction"] if has_guide else ["image", "truth", "prediction"]
    heights = [panel_height(row.labels.shape, width=_WIDTH) for row in rows]
    margins = (_LEFT, 0.1, 0.55, 0.55 if has_guide else 0.35)
    figure, panels = board(heights, len(titles), width=_WIDTH, gap=_GAP, margins=margins)
    for title, panel in zip(titles, panels[0], strict=True):
        panel.annotate(
            title, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=9.5, color=INK
        )
    limits = _limits([row.guide for row in rows if row.guide is not None])
    for row, line in zip(rows, panels, strict=True):
        _draw(row, line, limits)
        _label(row, line[0])
    if has_guide:
        bar_below(panels[-1][2], "guide value", limits=limits, over_image=True)
    heading(figure, short(name, 90))
    legend_below(figure, classes, x=_LEFT, y=0.2)
    return figure


def _limits(guides: Sequence[np.ndarray]) -> Limits:
    """From the smallest to the largest value of all cases: an early guide hardly leaves 0.5, and would look flat."""
    if not guides:
        return UNIT
    low, high = min(float(guide.min()) for guide in guides), max(float(guide.max()) for guide in guides)
    # To the hundredth beyond: the bar's ends are told to two digits, and a number outside of it would not be drawn.
    return (floor(100 * low) / 100, ceil(100 * high) / 100) if high - low > _FLAT else UNIT


def _draw(row: Row, panels: Sequence[Axes], limits: Limits) -> None:
    small, size_hw = thumbnail(row.image), row.labels.shape
    for panel in panels:
        show(panel, small, size_hw=size_hw)
    outline(panels[1], row.truth)
    outline(panels[-1], row.labels)
    if row.guide is not None:
        show(panels[2], guide_over(small, thumbnail_map(row.guide), limits=limits), size_hw=size_hw)


def _label(row: Row, panel: Axes) -> None:
    """Name and score to the left of the row."""
    lines = [(short(row.name, 18), 7, 7.5, FAINT), (f"Dice {row.dice:.3f}", -5, 9.5, INK)]
    for text, lift, size, colour in lines:
        panel.annotate(
            text,
            (0, 0.5),
            (-6, lift),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=size,
            color=colour,
        )
