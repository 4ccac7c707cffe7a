"""A contact sheet of images with their masks outlined, for a first look at a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guidino_cli.plots.outlines import draw_outlines
from guidino_cli.plots.panels import class_lines, create_page, legend_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 110
# All in pixels.
_TILE, _GAP, _HEAD, _CAPTION, _LEGEND, _MIN_WIDTH = 240, 8, 64, 48, 24, 720
_MARK = "#c00000"


@dataclass(frozen=True)
class Tile:
    """One image of the sheet.

    Attributes:
        image: (H, W, 3) uint8.
        labels: (H, W) uint8 class indices.
        title: First line under the picture, such as the case id.
        subtitle: Second line, such as split and foreground share.
        mark: Third line, in red as is a frame round the picture: why the mask should be looked at.
    """

    image: np.ndarray
    labels: np.ndarray
    title: str
    subtitle: str
    mark: str = ""


def contact_sheet(tiles: Sequence[Tile], *, heading: str, classes: Sequence[str], columns: int = 6) -> Figure:
    """Draw tiles row by row, masks as outlines.

    Args:
        tiles: At least one.
        heading: Title of the page, one or two lines.
        classes: Class names, the background first, for the legend.
        columns: Tiles in a row.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    from matplotlib.patches import Rectangle

    columns = min(columns, len(tiles))
    ratio = float(np.median([tile.image.shape[0] / tile.image.shape[1] for tile in tiles]))
    cell = round(_TILE * min(max(ratio, 0.5), 1.5))
    width = _page_width(columns)
    legend = legend_columns(classes, width=width / _DPI, size=9)
    below = _LEGEND * max(1, -(-(len(classes) - 1) // legend))
    page = _page(tiles, columns=columns, cell=cell, below=below)
    figure, axes = create_page(page, dpi=_DPI)
    axes.text(width / 2, _HEAD / 2, heading, fontsize=10.5, ha="center", va="center", linespacing=1.4)
    for index, tile in enumerate(tiles):
        left, top = _corner(index, columns=columns, cell=cell)
        caption = f"{_short(tile.title)}\n{tile.subtitle}"
        axes.text(left + _TILE / 2, top + cell + 5, caption, fontsize=7, ha="center", va="top", color="#222222")
        if tile.mark:
            axes.text(left + _TILE / 2, top + cell + 31, tile.mark, fontsize=7, ha="center", va="top", color=_MARK)
            axes.add_patch(Rectangle((left - 2, top - 2), _TILE + 3, cell + 3, fill=False, color=_MARK, linewidth=2))
    axes.legend(handles=class_lines(classes, linewidth=3), loc="lower center", ncols=legend, fontsize=9, frameon=False)
    return figure


def _page_width(columns: int) -> int:
    return max(_corner(columns - 1, columns=columns, cell=0)[0] + _TILE + _GAP, _MIN_WIDTH)


def _page(tiles: Sequence[Tile], *, columns: int, cell: int, below: int) -> np.ndarray:
    """All tiles on white, each in the middle of a cell `_TILE` wide and `cell` high: (H, W, 3) uint8."""
    _, last_top = _corner(len(tiles) - 1, columns=columns, cell=cell)
    page = np.full((last_top + cell + _CAPTION + below, _page_width(columns), 3), 255, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        left, top = _corner(index, columns=columns, cell=cell)
        height, width = tile.labels.shape
        drawn = draw_outlined_thumbnail(
            tile.image, tile.labels, size=round(min(_TILE / width, cell / height) * max(height, width))
        )
        top += (cell - drawn.shape[0]) // 2
        left += (_TILE - drawn.shape[1]) // 2
        page[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn[: page.shape[0], : page.shape[1]]
    return page


def _corner(index: int, *, columns: int, cell: int) -> tuple[int, int]:
    """Left and top of a cell in pixels."""
    margin = max(0, (_MIN_WIDTH - columns * (_TILE + _GAP) - _GAP) // 2)
    row, column = divmod(index, columns)
    return margin + _GAP + column * (_TILE + _GAP), _HEAD + row * (cell + _CAPTION)


def draw_outlined_thumbnail(image: np.ndarray, labels: np.ndarray, *, size: int = _TILE) -> np.ndarray:
    """Resize an image and draw a coloured line inside each region and a dark one outside.

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
    return draw_outlines(canvas, regions, width=2)


def _short(text: str, length: int = 26) -> str:
    """A long id with its middle left out, because ids often differ at either end."""
    return text if len(text) <= length else f"{text[: length // 2 - 1]}…{text[-(length // 2) :]}"
