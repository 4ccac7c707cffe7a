"""Elements of a panel: labels of its row, colorbar, scale bar, contours, and the curve of IoU over thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from guidino_cli.plots.panels import (
    GUIDE_COLORMAP,
    MID_GREY,
    MUTED_COLOUR,
    TEXT_COLOUR,
    UNIT_RANGE,
    Limits,
    blend_with_grey,
    shorten,
    thumbnail_labels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def label_row(axes: Axes, name: str, score: str, *, fontsize: float) -> None:
    """Write the name of a case and its score to the left of the first panel of its row.

    Args:
        axes: The panel.
        name: Name of the case, shortened to 18 characters.
        score: Text such as "Dice 0.912".
        fontsize: Font size of the score, in points.
    """
    for text, offset, size, colour in ((shorten(name, 18), 7, 7.5, MUTED_COLOUR), (score, -5, fontsize, TEXT_COLOUR)):
        axes.annotate(
            text,
            (0, 0.5),
            (-6, offset),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=size,
            color=colour,
        )


def add_colorbar(
    axes: Axes,
    label: str,
    *,
    limits: Limits = UNIT_RANGE,
    marks: Sequence[float] = (),
    extend: str = "neither",
    over_image: bool = False,
    colours: str = GUIDE_COLORMAP,
) -> None:
    """Add a horizontal colorbar under a panel.

    Args:
        axes: The panel.
        label: Label of the values.
        limits: Values at its ends.
        marks: Values to mark, such as the smallest and largest that occur.
        extend: As of matplotlib's `colorbar`: "min" where values below the first limit occur.
        over_image: The colours are those of `overlay_guide` over mid-grey.
        colours: Name of a colour map.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    figure: Any = axes.figure
    box = axes.get_position()
    height_in = figure.get_size_inches()[1]
    place = figure.add_axes((box.x0, box.y0 - 0.21 / height_in, box.width, 0.09 / height_in))
    pure = colormaps[colours](np.linspace(0, 1, 256))[:, :3]
    scale = ListedColormap(blend_with_grey(pure, MID_GREY) if over_image else pure)
    ticks = colorbar_ticks(limits)
    drawn = ScalarMappable(Normalize(*limits), scale)
    bar = figure.colorbar(drawn, cax=place, orientation="horizontal", ticks=ticks, extend=extend, format="%g")
    bar.outline.set_linewidth(0.4)
    place.tick_params(labelsize=7.5, length=2, pad=1.5, width=0.5, colors=TEXT_COLOUR)
    # The labels of the ends stay under their own colorbar.
    numbers = place.get_xticklabels()
    numbers[0].set_horizontalalignment("left")
    numbers[-1].set_horizontalalignment("right")
    place.set_xlabel(label, fontsize=7.5, color=MUTED_COLOUR, labelpad=1)
    for mark in marks:
        place.plot(
            [mark],
            [1.0],
            marker="v",
            markersize=3.5,
            color=TEXT_COLOUR,
            clip_on=False,
            transform=place.get_xaxis_transform(),
        )


def add_page_colorbar(figure: Figure, limits: Limits, *, left: float, bottom: float, dpi: int, note: str) -> None:
    """Add the colorbar of all guides of a page.

    Args:
        figure: The page.
        limits: Values at the ends of the bar.
        left: Left end in pixels.
        bottom: Lower edge in pixels from the bottom of the page; the numbers are below it.
        dpi: Pixels per inch of the page.
        note: To the right of the bar.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    width, height = figure.get_size_inches() * dpi
    place = figure.add_axes((left / width, bottom / height, 300 / width, 12 / height))
    drawn = ScalarMappable(Normalize(*limits), GUIDE_COLORMAP)
    bar = figure.colorbar(drawn, cax=place, orientation="horizontal", ticks=colorbar_ticks(limits), format="%g")
    bar.outline.set_linewidth(0.4)
    place.get_xticklabels()[0].set_horizontalalignment("left")
    place.tick_params(labelsize=8, length=2, pad=1.5, width=0.5, colors=TEXT_COLOUR)
    figure.text((left + 312) / width, (bottom + 6) / height, note, fontsize=8.5, va="center", color=MUTED_COLOUR)


def colorbar_ticks(limits: Limits) -> list[float]:
    """The ends of a colorbar, and round values between them that do not collide with the labels of the ends."""
    from matplotlib.ticker import MaxNLocator

    low, high = limits
    margin = 0.16 * (high - low)
    between = [float(f"{value:.6g}") for value in MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high)]
    return [
        float(f"{low:.2g}"),
        *(value for value in between if low + margin < value < high - margin),
        float(f"{high:.2g}"),
    ]


_MAX_BAR_FRACTION = 0.25
"""Longest scale bar as a fraction of the image's width."""


def add_scale_bar(axes: Axes, *, size_hw: tuple[int, int], spacing_mm: float | None = None) -> None:
    """Add a white bar of round length at the lower right, in mm where the width of a pixel is known, else in px."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    height, width = size_hw
    pixel, unit = (1.0, "px") if spacing_mm is None else (spacing_mm, "mm")
    length = round_length(width * pixel * _MAX_BAR_FRACTION)
    if unit == "px" and length < 1:
        return
    long, thick = length / pixel, max(height, width) / 90
    right, low = width - 0.5 - width * 0.03, height - 0.5 - height * 0.04
    corner = (right - long, low - thick)
    axes.add_patch(Rectangle(corner, long, thick, facecolor="white", edgecolor="black", linewidth=0.5))
    axes.text(
        right - long / 2,
        low - 1.4 * thick,
        f"{length:g} {unit}",
        ha="center",
        va="bottom",
        fontsize=7,
        color="white",
        path_effects=[withStroke(linewidth=1.6, foreground="black")],
    )


def round_length(upper_bound: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above `upper_bound`."""
    power = 10.0 ** np.floor(np.log10(upper_bound))
    return float(max(step for step in (1, 2, 5) if step * power <= upper_bound * (1 + 1e-9)) * power)


def draw_guide_contours(
    axes: Axes, guide: np.ndarray, thresholds: Sequence[float], *, size_hw: tuple[int, int], limits: Limits
) -> None:
    """Draw the contour of the map at each threshold, in the colour of that value."""
    x, y = _cell_centres(guide.shape, size_hw)
    low, high = float(guide.min()), float(guide.max())
    for threshold in thresholds:
        if low < threshold <= high:
            axes.contour(x, y, guide, levels=[threshold], colors=[guide_colour(threshold, limits)], linewidths=1.2)


def guide_colour(threshold: float, limits: Limits) -> Any:
    """Colour of a value in a map with these limits."""
    from matplotlib import colormaps

    low, high = limits
    return colormaps[GUIDE_COLORMAP](float(np.clip((threshold - low) / (high - low), 0, 1)))


def draw_white_contour(axes: Axes, region: np.ndarray, *, size_hw: tuple[int, int]) -> None:
    """Draw the contour of a region (H, W) in white with a dark rim, to stand out from coloured lines."""
    from matplotlib.patheffects import Normal, Stroke

    small = thumbnail_labels(region)
    if not small.any():
        return
    # A margin of one pixel closes the contours of regions that touch the edge.
    y, x = (
        (np.arange(-1, count + 1) + 0.5) * (side / count) - 0.5
        for side, count in zip(size_hw, small.shape, strict=True)
    )
    lines = axes.contour(x, y, np.pad(small, 1) > 0, levels=[0.5], colors=["white"], linewidths=1.4)
    lines.set(path_effects=[Stroke(linewidth=2.8, foreground="black", alpha=0.8), Normal()])


def plot_iou_curve(axes: Axes, thresholds: Sequence[float], values: Sequence[float], *, limits: Limits) -> None:
    """Plot IoU at each threshold within the limits; the point at 0.5 is circled and labelled."""
    for side in ("left", "bottom"):
        axes.spines[side].set(visible=True, linewidth=0.6, color=MUTED_COLOUR)
    margin = 0.04 * (limits[1] - limits[0])
    axes.set(xlim=(limits[0] - margin, limits[1] + margin), ylim=(0, 1))
    axes.grid(linewidth=0.4, color="#dddddd")
    axes.set_axisbelow(True)
    inside = [(at, value) for at, value in zip(thresholds, values, strict=True) if limits[0] <= at <= limits[1]]
    x, y = [at for at, _ in inside], [value for _, value in inside]
    axes.plot(x, y, color=MUTED_COLOUR, linewidth=1, zorder=2)
    colours = [guide_colour(at, limits) for at in x]
    axes.scatter(x, y, c=colours, s=16, zorder=3, edgecolors=TEXT_COLOUR, linewidths=0.4, clip_on=False)
    _label_half(axes, dict(zip(thresholds, values, strict=True)).get(0.5), limits)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axes.xaxis.set_major_locator(_ticks())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.tick_params(labelsize=7.5, length=2, pad=1.5, width=0.5, colors=TEXT_COLOUR)
    axes.set_xlabel("threshold of the guide", fontsize=7.5, color=MUTED_COLOUR, labelpad=1)


def _label_half(axes: Axes, value: float | None, limits: Limits) -> None:
    """Label the IoU at 0.5 beside its point, or in the corner if 0.5 is outside the limits."""
    if value is None or not np.isfinite(value):
        return
    style: Any = {"textcoords": "offset points", "fontsize": 7.5, "color": TEXT_COLOUR}
    share = (0.5 - limits[0]) / (limits[1] - limits[0])
    if not 0 <= share <= 1:
        corner: Any = {"xycoords": "axes fraction", "ha": "right", "va": "top"}
        axes.annotate(f"{value:.2f} at 0.5, beyond its values", (1, 1), xytext=(-2, -3), **corner, **style)
        return
    axes.scatter(
        [0.5], [value], s=48, facecolors="none", edgecolors=TEXT_COLOUR, linewidths=0.9, zorder=4, clip_on=False
    )
    side = "left" if share < 0.2 else "right" if share > 0.8 else "center"
    axes.annotate(f"{value:.2f} at 0.5", (0.5, value), xytext=(0, -12 if value > 0.85 else 7), ha=side, **style)


def _ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4, steps=[1, 2, 5, 10])


def _cell_centres(shape: tuple[int, ...], size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the cells of a grid that covers an image, in pixels: columns, rows."""
    y, x = ((np.arange(count) + 0.5) * (side / count) - 0.5 for side, count in zip(size_hw, shape, strict=True))
    return x, y
