"""What a guide sees in one image, drawn for a paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from guidino_cli.plots.guide_parts import (
    draw_agreement,
    draw_curve,
    draw_difference,
    draw_image,
    draw_lines,
    draw_map,
    draw_one_of_two,
    draw_over,
    draw_prediction,
    draw_truth,
    named,
)
from guidino_cli.plots.panels import board, heading, legend_below, panel_height, short
from guidino_cli.plots.tokens import draw_components, draw_cosine
from guidino_cli.plots.views import GuideMap, GuideStyle, GuideView, TokenView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Draw = Callable[["Axes"], None]

_COLUMNS = 4
_WIDTH = 2.4
_ROW_GAP = 0.98
_TOP = 0.62


def guide_panel(view: GuideView, style: GuideStyle) -> Figure:
    """Image, prediction and truth, and each guide map as such, over the image, and cut at several thresholds.

    Returns:
        A figure that belongs to no window; save it with `savefig`.
    """
    rows = _rows(view, style)
    columns = max(len(row) for row in rows)
    height = panel_height(view.size_hw, width=_WIDTH)
    figure, panels = board([height] * len(rows), columns, width=_WIDTH, row_gap=_ROW_GAP)
    for line, draws in zip(panels, rows, strict=True):
        for axes, draw in zip(line, draws, strict=False):
            draw(axes)
        for axes in line[len(draws) :]:
            axes.set_visible(False)
    heading(figure, short(view.name, 15 * columns), note=short(style.source, 20 * columns))
    # Under the outlined prediction, where colour bars have their place too.
    below = float(figure.get_size_inches()[1]) - _TOP - height - 0.19
    legend_below(figure, style.classes, x=0.1 + (_WIDTH + 0.12), y=below)
    return figure


def _rows(view: GuideView, style: GuideStyle) -> list[list[Draw]]:
    first: list[Draw] = [partial(draw_image, view=view, style=style), partial(draw_prediction, view=view)]
    maps = [_map_row(item, view, style) for item in view.maps]
    if view.truth is None and len(maps) == 1:
        rows = [first + maps[0]]
    else:
        first += [] if view.truth is None else [partial(draw_truth, view=view), partial(draw_agreement, view=view)]
        rows = [first, *(maps if view.truth is not None else _two_by_two(maps))]
    rows += [_change_row(item, view, style) for item in view.maps if item.before is not None]
    tokens = [draw for item in view.tokens for draw in _token_row(item, view)]
    return rows + [tokens[start : start + _COLUMNS] for start in range(0, len(tokens), _COLUMNS)]


def _two_by_two(pairs: Sequence[list[Draw]]) -> list[list[Draw]]:
    return [[draw for pair in pairs[start : start + 2] for draw in pair] for start in range(0, len(pairs), 2)]


def _map_row(item: GuideMap, view: GuideView, style: GuideStyle) -> list[Draw]:
    limits = style.limits_of(view)
    several = len(view.maps) > 1
    row: list[Draw] = [
        partial(draw_map, item=item, view=view, style=style, limits=limits, several=several),
        partial(draw_over, item=item, view=view, limits=limits, several=several),
    ]
    if item.target is not None:
        row += [
            partial(draw_lines, item=item, view=view, style=style, limits=limits),
            partial(draw_curve, item=item, style=style, limits=limits),
        ]
    return row


def _change_row(item: GuideMap, view: GuideView, style: GuideStyle) -> list[Draw]:
    """The other guide, this one, and their difference."""
    limits = style.limits_of(view)
    pairs = [(style.titles[1], item.before, item.before_auroc), (style.titles[0], item.values, item.auroc)]
    row: list[Draw] = []
    for title, values, area in pairs:
        if values is not None:
            title = named(title, item, several=len(view.maps) > 1)
            row.append(
                partial(draw_one_of_two, title=title, values=values, area=area, item=item, view=view, limits=limits)
            )
    return [*row, partial(draw_difference, item=item, view=view, style=style)]


def _token_row(tokens: TokenView, view: GuideView) -> list[Draw]:
    return [
        partial(draw_components, tokens=tokens, size_hw=view.size_hw),
        partial(draw_cosine, tokens=tokens, size_hw=view.size_hw, chosen=""),
    ]
