"""The drawing board of every figure: panels of equal size, their titles, outlines of classes and their legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from guidino_cli.plots.outlines import outline_colour
from guidino_cli.plots.thumbnails import thumbnail_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#1a1a1a", "#666666"
DPI = 200


def board(
    heights: Sequence[float],
    columns: int,
    *,
    width: float,
    gap: float = 0.12,
    row_gap: float | None = None,
    margins: tuple[float, float, float, float] = (0.1, 0.1, 0.62, 0.62),
) -> tuple[Figure, list[list[Axes]]]:
    """A white figure with empty panels at exact places; lengths are inches.

    Args:
        heights: One per row of panels.
        columns: Panels in a row.
        width: Of a panel.
        gap: Between panels, both ways.
        row_gap: Between rows, where titles and bars need more than `gap`.
        margins: Left, right, top and bottom.

    Returns:
        The figure, which belongs to no window, and its axes by row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    left, right, top, bottom = margins
    between = gap if row_gap is None else row_gap
    total_w = left + columns * width + (columns - 1) * gap + right
    total_h = top + sum(heights) + (len(heights) - 1) * between + bottom
    figure = Figure(figsize=(total_w, total_h), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    rows, edge = [], total_h - top
    for height in heights:
        edge -= height
        boxes = [(left + column * (width + gap), edge) for column in range(columns)]
        rows.append([figure.add_axes((x / total_w, y / total_h, width / total_w, height / total_h)) for x, y in boxes])
        edge -= between
    for axes in (axes for row in rows for axes in row):
        axes.set(xticks=[], yticks=[], anchor="NW")
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure, rows


def panel_height(size_hw: tuple[int, int], *, width: float) -> float:
    """Height in inches of a panel for an image; very long images are fitted into it instead."""
    return width * min(max(size_hw[0] / size_hw[1], 0.15), 1.5)


def show(axes: Axes, pixels: np.ndarray, *, size_hw: tuple[int, int], smooth: bool = True) -> None:
    """Draw (h, w, 3) or (h, w) values over the pixel coordinates of an image of `size_hw`.

    Args:
        axes: The panel.
        pixels: uint8 or floats in [0, 1]; any grid that covers the image.
        size_hw: Height and width of the image whose coordinates the panel gets.
        smooth: Blend neighbours when enlarging; False shows the cells of a coarse grid as they are.
    """
    height, width = size_hw
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(pixels, extent=extent, interpolation="antialiased" if smooth else "nearest", aspect="equal")
    axes.set(xlim=extent[:2], ylim=extent[2:])


def head(axes: Axes, title: str, detail: str = "") -> None:
    """A panel's title, and a second, fainter line under it."""
    for text, lift, size, colour in ((title, 14, 9.5, INK), (detail, 3.5, 7.5, FAINT)):
        axes.annotate(
            text,
            (0, 1),
            xytext=(0, lift),
            xycoords=_corner(axes),
            textcoords="offset points",
            fontsize=size,
            color=colour,
        )


def outline(axes: Axes, labels: np.ndarray, *, size_hw: tuple[int, int] | None = None) -> None:
    """Draw the border of every class but 0, coloured with a dark rim that shows on bright tissue too.

    Args:
        axes: The panel.
        labels: Class indices on any grid that covers the image.
        size_hw: Height and width of the image; by default those of the labels.
    """
    from matplotlib.patheffects import Normal, Stroke

    size_hw = size_hw or (labels.shape[0], labels.shape[1])
    small = thumbnail_labels(labels)
    # One more pixel all round closes the lines of regions that touch the edge.
    padded = np.pad(small, 1)
    x, y = (
        (np.arange(-1, count + 1) + 0.5) * (side / count) - 0.5
        for side, count in ((size_hw[1], small.shape[1]), (size_hw[0], small.shape[0]))
    )
    for index in np.unique(small[small > 0]):
        lines = axes.contour(x, y, padded == index, levels=[0.5], colors=[outline_colour(int(index))], linewidths=1.3)
        lines.set(path_effects=[Stroke(linewidth=2.6, foreground="black", alpha=0.75), Normal()])


def legend_below(figure: Figure, classes: Sequence[str], *, x: float, y: float) -> None:
    """Names of the foreground classes in the colours of their outlines; left end and middle height in inches."""
    from matplotlib.lines import Line2D

    width, height = figure.get_size_inches()
    lines = [
        Line2D([], [], color=outline_colour(index), linewidth=2.5, label=short(name, 18))
        for index, name in enumerate(classes)
        if index
    ]
    figure.legend(
        handles=lines[:8],
        loc="center left",
        bbox_to_anchor=(x / width, y / height),
        ncols=min(len(lines), 4),
        fontsize=7.5,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.4,
        columnspacing=1.2,
    )


def heading(figure: Figure, text: str, *, note: str = "") -> None:
    """One bold line at the top left, and a fainter one at the top right."""
    width, height = figure.get_size_inches()
    top = 1 - 0.08 / height
    figure.text(0.1 / width, top, text, fontsize=9, color=INK, va="top", weight="bold")
    figure.text(1 - 0.1 / width, top, note, fontsize=8, color=FAINT, va="top", ha="right")


def short(text: str, length: int = 40) -> str:
    """A long name with its middle left out: both ends tell names apart. Plain dots, because a caption may be copied."""
    if len(text) <= length:
        return text
    kept = length - 3
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def _corner(axes: Axes) -> Any:
    """Fractions of the panel as laid out, not of the box that `aspect="equal"` shrinks for long images."""
    from matplotlib.transforms import BboxTransformTo, TransformedBbox

    return BboxTransformTo(TransformedBbox(axes.get_position(original=True), axes.figure.transFigure))
