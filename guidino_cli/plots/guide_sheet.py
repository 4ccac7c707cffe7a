"""Contact sheets of images with their guide or token maps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guidino_cli.plots.annotations import add_page_colorbar
from guidino_cli.plots.panels import (
    MUTED_COLOUR,
    TEXT_COLOUR,
    Limits,
    class_lines,
    create_page,
    legend_columns,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TILES_PER_PAGE = 24
"""Tiles on a full page."""
TILE_SIDE = 200
"""Longer side of an image in a tile, in pixels."""
_DPI = 110
# All in pixels.
_GAP, _INNER, _HEAD, _CAPTION, _COLORBAR, _LEGEND_ROW, _PAGE = 14, 2, 64, 40, 56, 22, 1800


@dataclass(frozen=True)
class GuideTile:
    """One image.

    Attributes:
        pictures: (h, w, 3) uint8 of one size, at most `TILE_SIDE` wide and high, drawn side by side.
        title: First line below, such as the name of the file.
        detail: Second line.
    """

    pictures: Sequence[np.ndarray]
    title: str
    detail: str


def guide_sheet(
    tiles: Sequence[GuideTile], *, heading: str, note: str, classes: Sequence[str] = (), limits: Limits | None = None
) -> Figure:
    """Draw one page, tiles row by row.

    Args:
        tiles: At least one; `TILES_PER_PAGE` make a full page.
        heading: Bold, at the top left.
        note: Below it: describes the images in a tile.
        classes: Class names for the legend of the outlines, the background first.
        limits: Range of the colorbar; None draws none.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """

    wide = max(len(tile.pictures) for tile in tiles)
    cell_w, cell_h = (
        wide * (TILE_SIDE + _INNER) - _INNER,
        max(picture.shape[0] for tile in tiles for picture in tile.pictures),
    )
    columns = max(1, min(len(tiles), (_PAGE - _GAP) // (cell_w + _GAP)))
    width = max(_corner(columns - 1, columns=columns, cell=(cell_h, cell_w))[0] + cell_w + _GAP, 820)
    legend = legend_columns(classes, width=width / _DPI, size=9)
    below = _LEGEND_ROW * -(-(len(classes) - 1) // legend) if len(classes) > 1 else 0
    foot = below + (_GAP if limits is None else _COLORBAR)
    page = _page(tiles, columns=columns, cell=(cell_h, cell_w), width=width, foot=foot)
    figure, axes = create_page(page, dpi=_DPI)
    axes.text(_GAP, 12, heading, fontsize=11, weight="bold", va="top", color=TEXT_COLOUR)
    axes.text(_GAP, 36, note, fontsize=9, va="top", color=MUTED_COLOUR)
    for index, tile in enumerate(tiles):
        left, top = _corner(index, columns=columns, cell=(cell_h, cell_w))
        axes.text(left, top + cell_h + 4, shorten(tile.title, cell_w // 8), fontsize=7.5, va="top", color=TEXT_COLOUR)
        axes.text(left, top + cell_h + 19, tile.detail, fontsize=7.5, va="top", color=MUTED_COLOUR)
    _legend(axes, classes, columns=legend)
    if limits is not None:
        note = "guide value, the same colours in all pictures"
        add_page_colorbar(figure, limits, left=_GAP, bottom=below + 36, dpi=_DPI, note=note)
    return figure


def _page(tiles: Sequence[GuideTile], *, columns: int, cell: tuple[int, int], width: int, foot: int) -> np.ndarray:
    bottom = _corner(len(tiles) - 1, columns=columns, cell=cell)[1] + cell[0] + _CAPTION + foot
    page = np.full((bottom, width, 3), 255, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        left, top = _corner(index, columns=columns, cell=cell)
        for picture in tile.pictures:
            height, width = picture.shape[:2]
            # At the bottom of its cell, next to its caption.
            page[top + cell[0] - height : top + cell[0], left : left + width] = picture
            left += width + _INNER
    return page


def _corner(index: int, *, columns: int, cell: tuple[int, int]) -> tuple[int, int]:
    """Left and top of a cell in pixels."""
    row, column = divmod(index, columns)
    return _GAP + column * (cell[1] + _GAP), _HEAD + row * (cell[0] + _CAPTION)


def _legend(axes: Axes, classes: Sequence[str], *, columns: int) -> None:
    """In the foot of the page, which has room for its rows."""
    if len(classes) > 1:
        lines = class_lines(classes, linewidth=3)
        axes.legend(handles=lines, loc="lower right", ncols=columns, fontsize=9, frameon=False)
