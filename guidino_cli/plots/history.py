"""Figures of a training run: losses and validation Dice by epoch, and predictions of validation cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from guidino_cli.plots.annotations import add_colorbar, label_row
from guidino_cli.plots.panels import (
    DPI,
    MUTED_COLOUR,
    TEXT_COLOUR,
    UNIT_RANGE,
    Limits,
    add_class_legend,
    create_panels,
    draw_class_contours,
    legend_height,
    overlay_guide,
    panel_height,
    set_figure_title,
    shorten,
    show_image,
    thumbnail,
    thumbnail_map,
)
from guidino_cli.plots.text import create_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_NOT_LOSSES = {"epoch", "lr", "lora_lr", "backbone_lr", "loss", "train_seconds"}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
_MAX_MARKERS = 40
"""Curves of at most this many epochs have markers."""


def _is_loss(column: str) -> bool:
    return column not in _NOT_LOSSES and not column.startswith("val_") and not column.endswith("_per_second")


def training_curve(history: Sequence[Mapping[str, Any]], *, name: str = "") -> Figure:
    """Plot loss terms above, and validation Dice with its best epoch below.

    Args:
        history: One row per epoch, as in `history.jsonl`: epoch, loss, its terms, and val_dice where it was measured.
        name: Title, such as the name of the run.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    figure = create_figure(figsize=(6.5, 5.0), dpi=DPI, facecolor="white", layout="constrained")
    losses, scores = figure.subplots(2, 1, sharex=True)
    _draw_losses(losses, history)
    _draw_scores(scores, [row for row in history if isfinite(row.get("val_dice", float("nan")))])
    for axes in (losses, scores):
        style_axes(axes)
    limit_epochs(scores, [row["epoch"] for row in history])
    if name:
        figure.suptitle(shorten(name, 70), fontsize=9.5, color=TEXT_COLOUR, x=0.02, ha="left", weight="bold")
    return figure


def _draw_losses(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    terms = [key for row in history for key in row if _is_loss(key)]
    names = list(dict.fromkeys(terms))
    _line(axes, history, "loss", label="total", color=TEXT_COLOUR, linewidth=1.8)
    if len(names) > 1:
        for index, term in enumerate(names):
            style: dict[str, Any] = {
                "color": COLOURS[index % len(COLOURS)],
                "linestyle": DASHES[index % len(DASHES)],
            }
            _line(axes, history, term, label=term.replace("_", " "), linewidth=1.3, **style)
    axes.set_ylabel("training loss, weighted")
    if axes.lines:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.legend(
            fontsize=8,
            frameon=False,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=min(len(axes.lines), 6),
            columnspacing=1.2,
            borderaxespad=0.2,
        )


def _draw_scores(axes: Axes, measured: Sequence[Mapping[str, Any]]) -> None:
    axes.set_ylabel("validation Dice")
    axes.set_xlabel("epoch")
    axes.set_ylim(0, 1)
    if not measured:
        axes.text(0.5, 0.5, "not measured yet", transform=axes.transAxes, ha="center", color=MUTED_COLOUR, fontsize=9)
        return
    _line(axes, measured, "val_dice", color=COLOURS[0], linewidth=1.5)
    # `max` takes the first of equal scores, whose weights were kept.
    best = max(measured, key=lambda row: row["val_dice"])
    epoch, score = best["epoch"], best["val_dice"]
    axes.axvline(epoch, color=MUTED_COLOUR, linewidth=0.8, linestyle=":", zorder=1)
    axes.plot([epoch], [score], marker="*", markersize=12, color="#d55e00", markeredgecolor="white", zorder=3)
    axes.set_title(f"best {score:.4f} in epoch {epoch}", fontsize=9, color=MUTED_COLOUR, loc="right", pad=4)


def _line(axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, **style: Any) -> None:
    points = [(row["epoch"], row[key]) for row in rows if key in row]
    marker: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(points) <= _MAX_MARKERS else {}
    if points:
        axes.plot(*zip(*points, strict=True), **style, **marker)


def style_axes(axes: Axes) -> None:
    """Set a light grid, small labels, and no frame above and to the right."""
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=TEXT_COLOUR)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(fontsize=9, color=TEXT_COLOUR)


def limit_epochs(axes: Axes, epochs: Sequence[int]) -> None:
    """Set integer ticks, with a margin for the markers at both ends."""
    from matplotlib.ticker import MaxNLocator

    first, last = (min(epochs), max(epochs)) if epochs else (1, 1)
    margin = max(0.5, 0.015 * (last - first))
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))


_WIDTH, _GAP = 1.75, 0.08
_LEFT = 1.25
# Below this range, colours would show rounding errors only.
_FLAT = 1e-3


@dataclass(frozen=True)
class ValidationRow:
    """One case.

    Attributes:
        name: Case id.
        dice: Mean over the foreground classes.
        image: (H, W, 3) uint8.
        truth: (H, W) class indices.
        labels: (H, W) predicted class indices.
        guide: (H, W) in [0, 1], or None without a guide.
    """

    name: str
    dice: float
    image: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    guide: np.ndarray | None


def validation_grid(rows: Sequence[ValidationRow], *, name: str, classes: Sequence[str]) -> Figure:
    """Draw one row per case: image, truth, guide where there is one, and prediction.

    Args:
        rows: At least one; either all have a guide or none.
        name: Title, such as the name of the run.
        classes: Class names, the background first.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    has_guide = rows[0].guide is not None
    titles = ["image", "truth", "guide", "prediction"] if has_guide else ["image", "truth", "prediction"]
    heights = [panel_height(row.labels.shape, width=_WIDTH) for row in rows]
    legend_width = len(titles) * (_WIDTH + _GAP)
    below = legend_height(classes, width=legend_width)
    margins = (_LEFT, 0.1, 0.55, (0.52 if has_guide else 0.12) + below)
    figure, panels = create_panels(heights, len(titles), width=_WIDTH, gap=_GAP, margins=margins)
    for title, panel in zip(titles, panels[0], strict=True):
        panel.annotate(
            title, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=9.5, color=TEXT_COLOUR
        )
    limits = _limits([row.guide for row in rows if row.guide is not None])
    for row, line in zip(rows, panels, strict=True):
        _draw(row, line, limits)
        label_row(line[0], row.name, f"Dice {row.dice:.3f}", fontsize=9.5)
    if has_guide:
        add_colorbar(panels[-1][2], "guide value", limits=limits, over_image=True)
    set_figure_title(figure, shorten(name, 90))
    add_class_legend(figure, classes, x=_LEFT, y=0.06, width=legend_width)
    return figure


def _limits(guides: Sequence[np.ndarray]) -> Limits:
    """Range over all cases, because an early guide hardly leaves 0.5 and would look flat over [0, 1]."""
    if not guides:
        return UNIT_RANGE
    low, high = min(float(guide.min()) for guide in guides), max(float(guide.max()) for guide in guides)
    # Rounded outwards: the colorbar labels its ends to two digits, and does not draw a label outside its range.
    return (floor(100 * low) / 100, ceil(100 * high) / 100) if high - low > _FLAT else UNIT_RANGE


def _draw(row: ValidationRow, panels: Sequence[Axes], limits: Limits) -> None:
    small, size_hw = thumbnail(row.image), row.labels.shape
    for panel in panels:
        show_image(panel, small, size_hw=size_hw)
    draw_class_contours(panels[1], row.truth)
    draw_class_contours(panels[-1], row.labels)
    if row.guide is not None:
        show_image(panels[2], overlay_guide(small, thumbnail_map(row.guide), limits=limits), size_hw=size_hw)
