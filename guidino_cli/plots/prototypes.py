"""The patches that prototypes like best, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guidino_cli.plots.panels import DPI, FAINT, INK, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELL, _LABEL, _GAP = 0.86, 1.75, 0.06
_CAPTION, _TOP, _BOTTOM = 0.2, 0.78, 0.05
# All in inches.


@dataclass(frozen=True)
class Crop:
    """A patch with its surroundings.

    Attributes:
        pixels: (h, w, 3) uint8.
        frame: Top, left, bottom and right of the patch itself, as shares of the crop.
        caption: Under it, such as the similarity.
    """

    pixels: np.ndarray
    frame: tuple[float, float, float, float]
    caption: str


@dataclass(frozen=True)
class CropRow:
    """What one prototype likes.

    Attributes:
        title: Such as "prototype 12".
        lines: Facts under the title.
        crops: Best first.
    """

    title: str
    lines: Sequence[str]
    crops: Sequence[Crop]


def prototype_sheet(rows: Sequence[CropRow], *, heading: str, notes: Sequence[str]) -> Figure:
    """Draw rows of crops, the patch itself framed in each.

    Args:
        rows: At least one with a crop.
        heading: Bold, at the top.
        notes: Up to two lines below, what the figures mean.

    Returns:
        A figure that belongs to no window; save it with `savefig`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(8, *(len(row.crops) for row in rows))
    width = 0.1 + _LABEL + columns * (_CELL + _GAP) + 0.05
    height = _TOP + len(rows) * (_CELL + _CAPTION + _GAP) + _BOTTOM
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.1 / width, 1 - 0.08 / height, heading, fontsize=9.5, weight="bold", va="top", color=INK)
    for number, note in enumerate(notes):
        figure.text(0.1 / width, 1 - (0.29 + 0.17 * number) / height, note, fontsize=8, va="top", color=FAINT)
    for number, row in enumerate(rows):
        top = height - _TOP - number * (_CELL + _CAPTION + _GAP)
        _label(figure, row, top=top)
        for place, crop in enumerate(row.crops):
            left = 0.1 + _LABEL + place * (_CELL + _GAP)
            box = (left / width, (top - _CELL) / height, _CELL / width, _CELL / height)
            _draw(figure.add_axes(box), crop)
    return figure


def _label(figure: Figure, row: CropRow, *, top: float) -> None:
    width, height = figure.get_size_inches()
    figure.text(0.1 / width, (top - 0.05) / height, short(row.title, 26), fontsize=9, va="top", color=INK)
    for number, line in enumerate(row.lines):
        y = (top - 0.26 - 0.15 * number) / height
        figure.text(0.1 / width, y, line, fontsize=7.5, va="top", color=FAINT)


def _draw(axes: Axes, crop: Crop) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    axes.imshow(crop.pixels, extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased")
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
    for spine in axes.spines.values():
        spine.set_visible(False)
    top, left, bottom, right = crop.frame
    frame = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="white", linewidth=0.9)
    frame.set_path_effects([Stroke(linewidth=2.0, foreground="black"), Normal()])
    axes.add_patch(frame)
    axes.annotate(
        crop.caption, (0.5, 0), (0, -3), xycoords="axes fraction", textcoords="offset points", ha="center", va="top",
        fontsize=7.5, color=INK,
    )  # fmt: skip
