"""A page of images with their masks outlined, for a first look at a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours for colour-blind readers, brightest first: they must stand out from tissue.
OUTLINES = ("#56b4e9", "#f0e442", "#e69f00", "#009e73", "#cc79a7", "#0072b2", "#d55e00")
_TILE = 360


@dataclass(frozen=True)
class Tile:
    """One picture of the sheet.

    Attributes:
        image: (H, W, 3) uint8.
        labels: (H, W) uint8 class indices.
        title: First line under the picture, such as the case id.
        subtitle: Second line, such as split and foreground share.
    """

    image: np.ndarray
    labels: np.ndarray
    title: str
    subtitle: str


def contact_sheet(tiles: Sequence[Tile], *, heading: str, classes: Sequence[str], columns: int = 6) -> Figure:
    """Draw tiles row by row, masks as outlines.

    Args:
        tiles: At least one.
        heading: Title of the page.
        classes: Class names, the background first, for the legend.
        columns: Tiles in a row.

    Returns:
        A figure that belongs to no window; save it with `savefig`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    ratio = float(np.median([tile.image.shape[0] / tile.image.shape[1] for tile in tiles]))
    width, height = 2.1 * columns + 0.3, (2.1 * min(max(ratio, 0.5), 1.6) + 0.45) * rows + 0.95
    figure = Figure(figsize=(max(width, 6.5), height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for place in axes:
        place.set_axis_off()
    for place, tile in zip(axes, tiles, strict=False):
        place.set_axis_on()
        place.imshow(outlined(tile.image, tile.labels), interpolation="antialiased")
        place.set(xticks=[], yticks=[])
        for spine in place.spines.values():
            spine.set_visible(False)
        place.set_xlabel(f"{_short(tile.title)}\n{tile.subtitle}", fontsize=7.5, color="#222222", labelpad=3)
    figure.suptitle(heading, fontsize=11, wrap=True)
    lines = [
        Line2D([], [], color=outline_colour(index), linewidth=3, label=name)
        for index, name in enumerate(classes)
        if index
    ]
    shown = lines[:12]
    figure.legend(handles=shown, loc="outside lower center", ncols=min(len(shown), 6), fontsize=9, frameon=False)
    return figure


def outlined(image: np.ndarray, labels: np.ndarray, *, size: int = _TILE) -> np.ndarray:
    """The image brought to `size`, with a coloured line inside each region and a dark one outside.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W) class indices.
        size: Pixels of the longer side.

    Returns:
        (h, w, 3) uint8.
    """
    from PIL import Image

    height, width = labels.shape
    scale = size / max(height, width)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduce = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    canvas = np.array(Image.fromarray(image).resize(target, reduce))
    regions = np.asarray(Image.fromarray(labels.astype(np.uint8)).resize(target, Image.Resampling.NEAREST))
    outer = _border(regions == 0) & (regions == 0)
    canvas[outer] = canvas[outer] // 3
    for index in np.unique(regions[regions > 0]):
        colour = [int(outline_colour(int(index))[start : start + 2], 16) for start in (1, 3, 5)]
        canvas[_border(regions == index)] = colour
    return canvas


def outline_colour(index: int) -> str:
    """Colour of a class's outline as `#rrggbb`; index 1 is the first foreground class."""
    return OUTLINES[(index - 1) % len(OUTLINES)]


def _border(region: np.ndarray) -> np.ndarray:
    """Pixels of a region within two pixels of its edge; the edge of the picture counts as region."""
    inside = region.copy()
    for _ in range(2):
        padded = np.pad(inside, 1, mode="edge")
        inside = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region & ~inside


def _short(text: str, length: int = 26) -> str:
    """A long id with its middle left out: both ends tell ids apart."""
    return text if len(text) <= length else f"{text[: length // 2 - 1]}…{text[-(length // 2) :]}"
