"""Pages of pictures of planes: rows of panels with the letters of their edges, titles, legend and colorbar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
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
from guidino_cli.plots.planes import Edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

DPI = 110
_MARK = "#c00000"
# All in pixels.
_LETTER, _CAPTION, _TITLE, _GAP, _LINE, _COLORBAR, _LEGEND_ROW, _MIN_WIDTH = 15, 14, 20, 14, 17, 60, 22, 720
_HEADING = 21
_LETTER_FONT = "DejaVu Sans Mono"
_CHARACTER = 6.6
"""Mean width of a character of the 8-point text in pixels, rounded up."""


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        picture: (h, w, 3) uint8.
        edges: Letters at its edges; None where the directions are unknown.
        title: Above the picture.
        caption: Below it.
    """

    picture: np.ndarray
    edges: Edges | None
    title: str = ""
    caption: str = ""


@dataclass(frozen=True)
class PanelRow:
    """Panels side by side.

    Attributes:
        panels: At least one.
        title: Above them; an empty one takes no room.
        detail: Beside the title.
        mark: After these in red, such as why a case should be looked at.
    """

    panels: Sequence[Panel]
    title: str = ""
    detail: str = ""
    mark: str = ""


@dataclass(frozen=True)
class _Layout:
    """Sizes in pixels that all rows of a page share."""

    panel_w: int
    row_w: int
    columns: int
    width: int

    @classmethod
    def of(cls, rows: Sequence[PanelRow], columns: int) -> _Layout:
        columns = min(columns, len(rows))
        panel_w = max(panel.picture.shape[1] for row in rows for panel in row.panels) + 2 * _LETTER
        row_w = max(len(row.panels) for row in rows) * (panel_w + _GAP // 2) - _GAP // 2
        return cls(panel_w, row_w, columns, max(_MIN_WIDTH, columns * (row_w + _GAP) + _GAP))

    def left(self, column: int) -> int:
        """Left edge of a row of panels; all of them together are in the middle of the page."""
        margin = (self.width - self.columns * (self.row_w + _GAP) + _GAP) // 2
        return margin + column * (self.row_w + _GAP)


def plane_sheet(
    rows: Sequence[PanelRow],
    *,
    heading: str = "",
    note: str = "",
    columns: int = 1,
    classes: Sequence[str] = (),
    limits: Limits | None = None,
) -> Figure:
    """Draw one page.

    Args:
        rows: At least one; they fill the page from left to right, then down.
        heading: Bold, at the top left; one line or more.
        note: Small, at the foot; wrapped.
        columns: Rows side by side.
        classes: Class names for the legend of the outlines, the background first.
        limits: Range of the guide's colorbar; None draws none.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    layout = _Layout.of(rows, columns)
    lines = wrap(note, int((layout.width - 2 * _GAP) / _CHARACTER))
    head = _GAP + (_HEADING * (heading.count("\n") + 1) + _GAP // 2 if heading else 0)
    tops, bottom = _row_tops(rows, layout.columns, head)
    legend_rows = _legend_rows(classes, layout.width)
    foot = len(lines) * _LINE + legend_rows * _LEGEND_ROW + (_COLORBAR if limits is not None else 0)
    page = np.full((bottom + (foot + _GAP if foot else 0), layout.width, 3), 255, dtype=np.uint8)
    places = [(layout.left(index % layout.columns), top) for index, top in enumerate(tops)]
    for row, (left, top) in zip(rows, places, strict=True):
        _paste(page, row, left, top, layout)
    figure, axes = create_page(page, dpi=DPI)
    axes.text(layout.left(0), _GAP, heading, fontsize=10.5, weight="bold", va="top", color=TEXT_COLOUR)
    for row, (left, top) in zip(rows, places, strict=True):
        _write(axes, row, left, top, layout)
    low = len(page) - _GAP // 2
    axes.text(layout.left(0), low, "\n".join(lines), fontsize=8, va="bottom", color=MUTED_COLOUR, linespacing=1.35)
    low -= len(lines) * _LINE
    if legend_rows:
        _add_legend(axes, classes, layout, low=low - legend_rows * _LEGEND_ROW, page_h=len(page))
        low -= legend_rows * _LEGEND_ROW
    if limits is not None:
        add_page_colorbar(figure, limits, left=layout.left(0), bottom=len(page) - low + 28, dpi=DPI, note="guide value")
    return figure


def _row_tops(rows: Sequence[PanelRow], columns: int, head: int) -> tuple[list[int], int]:
    """Top of each row, and the end of the last."""
    tops: list[int] = []
    for start in range(0, len(rows), columns):
        line = rows[start : start + columns]
        tops += [head] * len(line)
        head += max(_row_height(row) for row in line) + _GAP
    return tops, head


def _row_height(row: PanelRow) -> int:
    return _above(row) + max(panel.picture.shape[0] for panel in row.panels) + _LETTER + _below(row)


def _above(row: PanelRow) -> int:
    """Pixels between the top of a row and that of its highest picture."""
    return (_TITLE if row.title else 0) + (_TITLE if any(panel.title for panel in row.panels) else 0) + _LETTER


def _below(row: PanelRow) -> int:
    return _CAPTION if any(panel.caption for panel in row.panels) else 0


def _corner(row: PanelRow, number: int, left: int, top: int, layout: _Layout) -> tuple[int, int]:
    """Left and top of a picture, in the middle of the place of its panel."""
    picture_h, picture_w = row.panels[number].picture.shape[:2]
    highest = max(panel.picture.shape[0] for panel in row.panels)
    x = left + number * (layout.panel_w + _GAP // 2) + (layout.panel_w - picture_w) // 2
    return x, top + _above(row) + (highest - picture_h) // 2


def _paste(page: np.ndarray, row: PanelRow, left: int, top: int, layout: _Layout) -> None:
    for number, panel in enumerate(row.panels):
        x, y = _corner(row, number, left, top, layout)
        height, width = panel.picture.shape[:2]
        page[y : y + height, x : x + width] = panel.picture


def _write(axes: Axes, row: PanelRow, left: int, top: int, layout: _Layout) -> None:
    """Texts of a row of panels."""
    if row.title:
        _write_title(axes, row, left, top, layout)
    for number, panel in enumerate(row.panels):
        x, y = _corner(row, number, left, top, layout)
        height, width = panel.picture.shape[:2]
        centre = x + width / 2
        if panel.edges is not None:
            _write_letters(axes, panel.edges, x, y, (height, width))
        above, below = top + _above(row) - _LETTER - 4, y + height + _LETTER
        axes.text(centre, above, panel.title, fontsize=9, ha="center", va="bottom", color=TEXT_COLOUR)
        axes.text(centre, below, panel.caption, fontsize=7, ha="center", va="top", color=MUTED_COLOUR)


def _write_letters(axes: Axes, edges: Edges, x: int, y: int, size_hw: tuple[int, int]) -> None:
    """The letter of each edge, outside the picture, whose left and top are `x` and `y`."""
    height, width = size_hw
    across, down, beside = x + width / 2, y + height / 2, _LETTER / 2
    places = {
        edges.left: (x - beside, down),
        edges.right: (x + width + beside, down),
        edges.top: (across, y - beside),
        edges.bottom: (across, y + height + beside),
    }
    for letter, place in places.items():
        # In the fixed-width font an I has serifs, and is no tick.
        axes.text(*place, letter, fontsize=7.5, family=_LETTER_FONT, ha="center", va="center", color=TEXT_COLOUR)


def _write_title(axes: Axes, row: PanelRow, left: int, top: int, layout: _Layout) -> None:
    """Title, detail and mark of a row on one line, as far as they fit."""
    room = int(layout.row_w / _CHARACTER)
    title = shorten(row.title, max(12, room - len(row.detail) - len(row.mark) - 6))
    baseline = top + 0.7 * _TITLE
    line: Text = axes.text(left, baseline, title, fontsize=8.5, va="baseline", color=TEXT_COLOUR)
    for text, colour in ((row.detail, MUTED_COLOUR), (row.mark, _MARK)):
        if text:
            # To the right of the text before, on the same line.
            line = axes.annotate(
                text,
                (1, baseline),
                (6, 0),
                xycoords=(line, "data"),
                textcoords="offset points",
                fontsize=8.5,
                va="baseline",
                color=colour,
            )


def _legend_rows(classes: Sequence[str], width: int) -> int:
    if len(classes) < 2:
        return 0
    return -(-(len(classes) - 1) // legend_columns(classes, width=width / DPI, size=9))


def _add_legend(axes: Axes, classes: Sequence[str], layout: _Layout, *, low: int, page_h: int) -> None:
    axes.legend(
        handles=class_lines(classes, linewidth=3),
        loc="upper left",
        bbox_to_anchor=(layout.left(0) / layout.width, 1 - low / page_h),
        ncols=legend_columns(classes, width=layout.width / DPI, size=9),
        fontsize=9,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
    )
