"""Figures made of equal panels: layout, titles, legends, class contours, colormaps and thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from guidino_cli.plots.outlines import outline_colour
from guidino_cli.plots.text import create_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


GUIDE_COLORMAP = "viridis"
"""Perceptually uniform, also in greyscale and for colour-blind readers."""
Limits = tuple[float, float]
UNIT_RANGE: Limits = (0.0, 1.0)
_GUIDE_OPACITY = 0.7
_GREYS = (0.2, 0.8)
"""Grey levels of black and white under a guide: a narrow range, which hardly shifts the colours above it."""
MID_GREY = sum(_GREYS) / 2


def apply_colormap(values: np.ndarray, *, limits: Limits = UNIT_RANGE, colours: str = GUIDE_COLORMAP) -> np.ndarray:
    """Map values (H, W) to colours (H, W, 3) in [0, 1]; those outside the limits get the colour of the nearer one."""
    from matplotlib import colormaps

    low, high = limits
    return np.asarray(colormaps[colours](np.clip((values - low) / (high - low), 0, 1))[..., :3])


def muted_grey(image: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) uint8 as a background for coloured lines and maps: (H, W) greys between black and white."""
    grey = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255
    return np.asarray(_GREYS[0] + (_GREYS[1] - _GREYS[0]) * grey)


def overlay_guide(image: np.ndarray, guide: np.ndarray, *, limits: Limits = UNIT_RANGE) -> np.ndarray:
    """Blend the colours of a guide map with the image in muted grey.

    Args:
        image: (H, W, 3) uint8.
        guide: (H, W) in [0, 1].
        limits: Values of the first and the last colour.

    Returns:
        (H, W, 3) floats in [0, 1].
    """
    return blend_with_grey(apply_colormap(guide, limits=limits), muted_grey(image)[..., None])


def blend_with_grey(colours: np.ndarray, grey: np.ndarray | float) -> np.ndarray:
    """Blend the colours of a guide with a grey."""
    return np.asarray(_GUIDE_OPACITY * colours + (1 - _GUIDE_OPACITY) * grey)


_LONGEST_SIDE = 1200


def thumbnail(image: np.ndarray, *, longest: int = _LONGEST_SIDE) -> np.ndarray:
    """Downscale an image (H, W, 3) uint8 to sides of at most `longest`."""
    return _downscale(image, longest, "LANCZOS")


def thumbnail_labels(labels: np.ndarray, *, longest: int = _LONGEST_SIDE) -> np.ndarray:
    """Downscale class indices (H, W) to uint8 by nearest neighbour."""
    return _downscale(labels.astype(np.uint8), longest, "NEAREST")


def thumbnail_map(values: np.ndarray, *, longest: int = _LONGEST_SIDE) -> np.ndarray:
    """Downscale a map (H, W) to float32, bilinearly."""
    return _downscale(values.astype(np.float32), longest, "BILINEAR")


def _downscale(pixels: np.ndarray, longest: int, resampling: Literal["LANCZOS", "NEAREST", "BILINEAR"]) -> np.ndarray:
    from PIL import Image

    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling[resampling]))


def create_page(page: np.ndarray, *, dpi: int) -> tuple[Figure, Axes]:
    """Create a figure that shows an image (H, W, 3) pixel by pixel, and its axes in pixel coordinates.

    A page of tiles is one image, because separate axes for each tile take seconds to lay out.
    """
    height, width = page.shape[:2]
    figure = create_figure(figsize=(width / dpi, height / dpi), dpi=dpi)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.imshow(page, interpolation="none", extent=(0, width, height, 0), aspect="auto")
    return figure, axes


TEXT_COLOUR, MUTED_COLOUR = "#1a1a1a", "#666666"
DPI = 200


def create_panels(
    heights: Sequence[float],
    columns: int,
    *,
    width: float,
    gap: float = 0.12,
    row_gap: float | None = None,
    margins: tuple[float, float, float, float] = (0.1, 0.1, 0.62, 0.62),
) -> tuple[Figure, list[list[Axes]]]:
    """Create a white figure with empty axes in rows; like `subplots`, but with exact lengths in inches.

    Args:
        heights: Panel height of each row.
        columns: Panels per row.
        width: Panel width.
        gap: Distance between panels, in both directions.
        row_gap: Distance between rows, where titles and colorbars need more than `gap`.
        margins: Left, right, top and bottom.

    Returns:
        The figure, which is not registered with pyplot, and its axes by row.
    """
    left, right, top, bottom = margins
    between = gap if row_gap is None else row_gap
    total_w = left + columns * width + (columns - 1) * gap + right
    total_h = top + sum(heights) + (len(heights) - 1) * between + bottom
    figure = create_figure(figsize=(total_w, total_h), dpi=DPI, facecolor="white")
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
    """Height in inches of a panel with the aspect ratio of an image, within limits for very long images."""
    return width * min(max(size_hw[0] / size_hw[1], 0.15), 1.5)


def show_image(axes: Axes, pixels: np.ndarray, *, size_hw: tuple[int, int], smooth: bool = True) -> None:
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


def set_panel_title(axes: Axes, title: str, detail: str = "") -> None:
    """Add a title, and a second, muted line under it."""
    for text, offset, size, colour in ((title, 14, 9.5, TEXT_COLOUR), (detail, 3.5, 7.5, MUTED_COLOUR)):
        axes.annotate(
            text,
            (0, 1),
            xytext=(0, offset),
            xycoords=_panel_transform(axes),
            textcoords="offset points",
            fontsize=size,
            color=colour,
        )


def draw_class_contours(axes: Axes, labels: np.ndarray, *, size_hw: tuple[int, int] | None = None) -> None:
    """Draw the contour of every class but 0 in its colour, with a dark rim that is visible on bright tissue.

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


LEGEND_ROW = 0.17
"""Height in inches of a row of a class legend."""
_LEGEND_NAME = 18


def legend_columns(classes: Sequence[str], *, width: float, size: float = 7.5) -> int:
    """Number of columns of a legend of the foreground classes.

    Args:
        classes: Class names, the background first.
        width: Available width in inches.
        size: Font size in points.
    """
    longest = max((len(shorten(name, _LEGEND_NAME)) for name in classes[1:]), default=1)
    # A letter is about 0.62 em wide, a line with its gaps 5 em.
    return max(1, min(len(classes) - 1, int(width * 72 / size / (0.62 * longest + 5))))


def legend_height(classes: Sequence[str], *, width: float) -> float:
    """Height in inches of the rows of a class legend of this width."""
    return LEGEND_ROW * ceil((len(classes) - 1) / legend_columns(classes, width=width))


def class_lines(classes: Sequence[str], *, linewidth: float = 2.5) -> list[Any]:
    """A line of a legend for each foreground class, with a dark rim, because some colours are nearly white."""
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import Normal, Stroke

    rim = [Stroke(linewidth=linewidth + 1, foreground="#444444"), Normal()]
    return [
        Line2D(
            [],
            [],
            color=outline_colour(index),
            linewidth=linewidth,
            label=shorten(name, _LEGEND_NAME),
            path_effects=rim,
        )
        for index, name in enumerate(classes)
        if index
    ]


def add_class_legend(figure: Figure, classes: Sequence[str], *, x: float, y: float, width: float) -> None:
    """Add a legend of the foreground classes.

    Args:
        figure: The figure.
        classes: Class names, the background first.
        x: Its left end in inches.
        y: Its lower end in inches.
        width: Available width in inches.
    """
    total_w, total_h = figure.get_size_inches()
    figure.legend(
        handles=class_lines(classes),
        loc="lower left",
        bbox_to_anchor=(x / total_w, y / total_h),
        ncols=legend_columns(classes, width=width),
        fontsize=7.5,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.4,
        columnspacing=1.2,
    )


def set_figure_title(figure: Figure, text: str, *, note: str = "") -> None:
    """Add a bold title at the top left, and a muted note at the top right."""
    width, height = figure.get_size_inches()
    top = 1 - 0.08 / height
    figure.text(0.1 / width, top, text, fontsize=9, color=TEXT_COLOUR, va="top", weight="bold")
    figure.text(1 - 0.1 / width, top, note, fontsize=8, color=MUTED_COLOUR, va="top", ha="right")


def shorten(text: str, length: int = 40) -> str:
    """Replace the middle of a long name by dots: both ends are needed to tell names apart."""
    if len(text) <= length:
        return text
    kept = length - 3
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def _panel_transform(axes: Axes) -> Any:
    """Coordinates as fractions of the panel as laid out, not of the box that `aspect="equal"` shrinks."""
    from matplotlib.transforms import BboxTransformTo, TransformedBbox

    return BboxTransformTo(TransformedBbox(axes.get_position(original=True), axes.figure.transFigure))
