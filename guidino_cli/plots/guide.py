"""The figure of a guide in one image, and its panels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from guidino_cli.plots.annotations import (
    add_colorbar,
    add_scale_bar,
    draw_guide_contours,
    draw_white_contour,
    guide_colour,
    plot_iou_curve,
)
from guidino_cli.plots.panels import (
    MUTED_COLOUR,
    Limits,
    add_class_legend,
    apply_colormap,
    create_panels,
    draw_class_contours,
    legend_height,
    muted_grey,
    overlay_guide,
    panel_height,
    set_figure_title,
    set_panel_title,
    shorten,
    show_image,
    thumbnail,
    thumbnail_map,
)
from guidino_cli.plots.report import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE, draw_overlay
from guidino_cli.plots.tokens import draw_components, draw_cosine
from guidino_cli.plots.views import GuideMap, GuideStyle, GuideView, TokenView, select_evenly

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


DIFFERENCE_COLORMAP = "PuOr_r"
"""White where two guides agree; orange and violet are distinct for colour-blind readers."""
_MAX_CONTOURS = 5
"""Thresholds drawn as contours in one panel; more would be illegible."""


def draw_image(axes: Axes, *, view: GuideView, style: GuideStyle) -> None:
    show_image(axes, thumbnail(view.image), size_hw=view.size_hw)
    add_scale_bar(axes, size_hw=view.size_hw, spacing_mm=style.spacing_mm)
    set_panel_title(axes, "image", f"{view.size_hw[1]} x {view.size_hw[0]} px")


def draw_prediction(axes: Axes, *, view: GuideView) -> None:
    show_image(axes, thumbnail(view.image), size_hw=view.size_hw)
    draw_class_contours(axes, view.labels, size_hw=view.size_hw)
    parts = ("" if view.dice is None else f"Dice {view.dice:.3f}", _area_text(view.labels))
    set_panel_title(axes, "prediction of the network", ", ".join(part for part in parts if part))


def draw_truth(axes: Axes, *, view: GuideView) -> None:
    if view.truth is None:
        raise ValueError("no truth to draw")
    show_image(axes, thumbnail(view.image), size_hw=view.size_hw)
    draw_class_contours(axes, view.truth, size_hw=view.size_hw)
    set_panel_title(axes, "truth", _area_text(view.truth))


def draw_agreement(axes: Axes, *, view: GuideView) -> None:
    """True positives, false positives and false negatives of the guide thresholded at 0.5."""
    if view.truth is None:
        raise ValueError("no truth to compare with")
    image = thumbnail(view.image)
    largest = np.max([_resize_map(item.values, image.shape) for item in view.maps], axis=0) >= 0.5
    target = _resize_map((view.truth > 0).astype(np.float32), image.shape, smooth=False) > 0
    show_image(axes, draw_overlay(image, largest.astype(np.uint8), target.astype(np.uint8)), size_hw=view.size_hw)
    iou = f"IoU {view.gate_iou:.3f}" if isfinite(view.gate_iou) else "the truth is empty"
    set_panel_title(axes, "guide at 0.5" + (", any class" if len(view.maps) > 1 else ""), iou)
    _add_colour_legend(axes, [("found", TRUE_POSITIVE), ("too much", FALSE_POSITIVE), ("missed", FALSE_NEGATIVE)])


def draw_guide_map(
    axes: Axes, *, item: GuideMap, view: GuideView, style: GuideStyle, limits: Limits, several: bool
) -> None:
    show_image(axes, apply_colormap(thumbnail_map(item.values), limits=limits), size_hw=view.size_hw)
    low, high = float(item.values.min()), float(item.values.max())
    title = f"guide, {style.titles[0]}" if style.titles[1] else style.titles[0]
    set_panel_title(axes, map_title(title, item, several=several), f"from {low:.2f} to {high:.2f}")
    label = "guide value" + (f" ({style.limits_note})" if style.limits_note else "")
    add_colorbar(axes, label, limits=limits, marks=[value for value in (low, high) if limits[0] <= value <= limits[1]])


def draw_guide_overlay(axes: Axes, *, item: GuideMap, view: GuideView, limits: Limits, several: bool) -> None:
    image = thumbnail(view.image)
    values = _resize_map(item.values, image.shape)
    show_image(axes, overlay_guide(image, values, limits=limits), size_hw=view.size_hw)
    set_panel_title(
        axes,
        map_title("guide over the image", item, several=several),
        "" if item.target is None else "truth outlined in white",
    )
    if item.target is not None:
        draw_white_contour(axes, item.target, size_hw=view.size_hw)
    add_colorbar(axes, "guide value", limits=limits, over_image=True)


def draw_guide_thresholds(axes: Axes, *, item: GuideMap, view: GuideView, style: GuideStyle, limits: Limits) -> None:
    if item.target is None:
        raise ValueError("no truth to compare with")
    grey = muted_grey(thumbnail(view.image))
    show_image(axes, np.repeat(grey[..., None], 3, axis=2), size_hw=view.size_hw)
    draw_white_contour(axes, item.target, size_hw=view.size_hw)
    chosen = select_evenly([value for value in style.thresholds if limits[0] <= value <= limits[1]], _MAX_CONTOURS)
    draw_guide_contours(axes, thumbnail_map(item.values), chosen, size_hw=view.size_hw, limits=limits)
    set_panel_title(axes, "guide at several thresholds", "truth in white")
    if chosen:
        _add_colour_legend(axes, [(f"{value:g}", guide_colour(value, limits)) for value in chosen])


def draw_iou_curve(axes: Axes, *, item: GuideMap, style: GuideStyle, limits: Limits) -> None:
    detail = f"AUROC of the guide alone {item.auroc:.3f}" if isfinite(item.auroc) else "no AUROC: nothing to rank"
    set_panel_title(axes, "IoU with the truth", detail)
    box = axes.get_position()
    width_in = axes.figure.get_size_inches()[0]  # type: ignore[union-attr]
    shift = 0.2 / width_in
    axes.set_position((box.x0 + shift, box.y0, box.width - shift, box.height))
    plot_iou_curve(axes, style.thresholds, item.iou, limits=limits)


def draw_compared_map(
    axes: Axes, *, title: str, values: np.ndarray, area: float, item: GuideMap, view: GuideView, limits: Limits
) -> None:
    show_image(axes, apply_colormap(thumbnail_map(values), limits=limits), size_hw=view.size_hw)
    ends = f"from {values.min():.2f} to {values.max():.2f}"
    set_panel_title(axes, title, ends + (f", AUROC {area:.3f}" if isfinite(area) else ""))
    if item.target is not None:
        draw_white_contour(axes, item.target, size_hw=view.size_hw)
    add_colorbar(axes, "guide value", limits=limits)


def draw_difference(axes: Axes, *, item: GuideMap, view: GuideView, style: GuideStyle) -> None:
    if item.other is None:
        raise ValueError("no other guide to compare with")
    change = item.values - _resize_map(item.other, item.values.shape)
    limits = (-style.max_difference, style.max_difference)
    show_image(
        axes, apply_colormap(thumbnail_map(change), limits=limits, colours=DIFFERENCE_COLORMAP), size_hw=view.size_hw
    )
    set_panel_title(axes, "difference", f"from {_signed(float(change.min()))} to {_signed(float(change.max()))}")
    add_colorbar(axes, f"{style.titles[0]} - {style.titles[1]}", limits=limits, colours=DIFFERENCE_COLORMAP)


def _add_colour_legend(axes: Axes, items: Sequence[tuple[str, Any]]) -> None:
    """Add a one-line legend of colours under a panel."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=_to_hex(colour), edgecolor="#555555", linewidth=0.4, label=name) for name, colour in items
    ]
    box = axes.get_position(original=True)
    figure = axes.figure
    height_in = figure.get_size_inches()[1]  # type: ignore[union-attr]
    figure.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(box.x0, box.y0 - 0.19 / height_in),
        ncols=len(items),
        fontsize=7.5,
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.0,
        handleheight=0.9,
        handletextpad=0.4,
        columnspacing=0.9,
        labelcolor=MUTED_COLOUR,
    )


def _to_hex(colour: Any) -> str:
    """Convert a colour of integers up to 255, or any matplotlib colour, to `#rrggbb`."""
    from matplotlib.colors import to_hex

    if isinstance(colour, tuple) and all(isinstance(part, int) for part in colour):
        return "#" + "".join(f"{part:02x}" for part in colour[:3])
    return to_hex(colour)


def _signed(value: float) -> str:
    return f"{value:+.1g}" if 0 < abs(value) < 0.005 else f"{round(value, 2) + 0.0:+.2f}"


def _resize_map(values: np.ndarray, shape: tuple[int, ...], *, smooth: bool = True) -> np.ndarray:
    """Resize a map (h, w) to the height and width of a shape."""
    from PIL import Image

    if values.shape == shape[:2]:
        return values
    resampling = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize((shape[1], shape[0]), resampling))


def map_title(title: str, item: GuideMap, *, several: bool) -> str:
    """Title of a panel, with the name of the map where an image has several."""
    return shorten(f"{title}: {item.name}", 34) if several else title


def _area_text(labels: np.ndarray) -> str:
    share = float((labels > 0).mean())
    return "nothing found" if share == 0 else f"{share:.1%} of the image"


Draw = Callable[["Axes"], None]

_COLUMNS = 4
_WIDTH = 2.4
_ROW_GAP = 0.98
_TOP = 0.62


def guide_figure(view: GuideView, style: GuideStyle) -> Figure:
    """Draw image, prediction and truth, and each guide map alone, over the image, and as contours.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    rows = _rows(view, style)
    columns = max(len(row) for row in rows)
    height = panel_height(view.size_hw, width=_WIDTH)
    legend_width = columns * (_WIDTH + 0.12)
    below = legend_height(style.classes, width=legend_width)
    margins = (0.1, 0.1, _TOP, 0.62 + below)
    figure, panels = create_panels([height] * len(rows), columns, width=_WIDTH, row_gap=_ROW_GAP, margins=margins)
    for line, draws in zip(panels, rows, strict=True):
        for axes, draw in zip(line, draws, strict=False):
            draw(axes)
        for axes in line[len(draws) :]:
            axes.set_visible(False)
    set_figure_title(figure, shorten(view.name, 15 * columns), note=shorten(style.source, 20 * columns))
    add_class_legend(figure, style.classes, x=0.1, y=0.06, width=legend_width)
    return figure


def _rows(view: GuideView, style: GuideStyle) -> list[list[Draw]]:
    first: list[Draw] = [partial(draw_image, view=view, style=style), partial(draw_prediction, view=view)]
    maps = [_map_row(item, view, style) for item in view.maps]
    if view.truth is None and len(maps) == 1:
        rows = [first + maps[0]]
    else:
        first += [] if view.truth is None else [partial(draw_truth, view=view), partial(draw_agreement, view=view)]
        rows = [first, *(maps if view.truth is not None else _pair_rows(maps))]
    rows += [_change_row(item, view, style) for item in view.maps if item.other is not None]
    tokens = [draw for item in view.tokens for draw in _token_row(item, view)]
    return rows + [tokens[start : start + _COLUMNS] for start in range(0, len(tokens), _COLUMNS)]


def _pair_rows(pairs: Sequence[list[Draw]]) -> list[list[Draw]]:
    return [[draw for pair in pairs[start : start + 2] for draw in pair] for start in range(0, len(pairs), 2)]


def _map_row(item: GuideMap, view: GuideView, style: GuideStyle) -> list[Draw]:
    limits = style.limits_of(view)
    several = len(view.maps) > 1
    row: list[Draw] = [
        partial(draw_guide_map, item=item, view=view, style=style, limits=limits, several=several),
        partial(draw_guide_overlay, item=item, view=view, limits=limits, several=several),
    ]
    if item.target is not None:
        row += [
            partial(draw_guide_thresholds, item=item, view=view, style=style, limits=limits),
            partial(draw_iou_curve, item=item, style=style, limits=limits),
        ]
    return row


def _change_row(item: GuideMap, view: GuideView, style: GuideStyle) -> list[Draw]:
    """Panels of the other guide, this one, and their difference."""
    limits = style.limits_of(view)
    pairs = [(style.titles[1], item.other, item.other_auroc), (style.titles[0], item.values, item.auroc)]
    row: list[Draw] = []
    for title, values, area in pairs:
        if values is not None:
            title = map_title(title, item, several=len(view.maps) > 1)
            row.append(
                partial(draw_compared_map, title=title, values=values, area=area, item=item, view=view, limits=limits)
            )
    return [*row, partial(draw_difference, item=item, view=view, style=style)]


def _token_row(tokens: TokenView, view: GuideView) -> list[Draw]:
    return [
        partial(draw_components, tokens=tokens, size_hw=view.size_hw),
        partial(draw_cosine, tokens=tokens, size_hw=view.size_hw, chosen=""),
    ]
