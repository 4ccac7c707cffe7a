"""How a training run went: losses and validation Dice over its epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from guidino_cli.plots.panels import DPI, FAINT, INK, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOT_LOSSES = {"epoch", "lr", "lora_lr", "backbone_lr", "loss", "train_seconds", "images_per_second"}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
_MARKED = 40
"""Up to so many epochs, every one has a dot."""


def training_curve(history: Sequence[Mapping[str, Any]], *, name: str = "") -> Figure:
    """Loss terms above, validation Dice with its best epoch below.

    Args:
        history: One row an epoch, as in `history.jsonl`: epoch, loss, its terms, and val_dice where it was measured.
        name: Heading, such as the name of the run.

    Returns:
        A figure that belongs to no window; save it with `savefig`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 5.0), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(2, 1, sharex=True)
    _draw_losses(losses, history)
    _draw_scores(scores, [row for row in history if isfinite(row.get("val_dice", float("nan")))])
    for axes in (losses, scores):
        _dress(axes)
    _limit_epochs(scores, [row["epoch"] for row in history])
    if name:
        figure.suptitle(short(name, 70), fontsize=9.5, color=INK, x=0.02, ha="left", weight="bold")
    return figure


def _draw_losses(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    terms = [key for row in history for key in row if key not in _NOT_LOSSES and not key.startswith("val_")]
    several = list(dict.fromkeys(terms))
    _line(axes, history, "loss", label="total", color=INK, linewidth=1.8)
    if len(several) > 1:
        for index, term in enumerate(several):
            style: dict[str, Any] = {
                "color": _COLOURS[index % len(_COLOURS)],
                "linestyle": _DASHES[index % len(_DASHES)],
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
        axes.text(0.5, 0.5, "not measured yet", transform=axes.transAxes, ha="center", color=FAINT, fontsize=9)
        return
    _line(axes, measured, "val_dice", color=_COLOURS[0], linewidth=1.5)
    # The first of equals: that is the one whose weights were kept.
    best = max(measured, key=lambda row: row["val_dice"])
    epoch, score = best["epoch"], best["val_dice"]
    axes.axvline(epoch, color=FAINT, linewidth=0.8, linestyle=":", zorder=1)
    axes.plot([epoch], [score], marker="*", markersize=12, color="#d55e00", markeredgecolor="white", zorder=3)
    axes.set_title(f"best {score:.4f} in epoch {epoch}", fontsize=9, color=FAINT, loc="right", pad=4)


def _line(axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, **style: Any) -> None:
    points = [(row["epoch"], row[key]) for row in rows if key in row]
    marker: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(points) <= _MARKED else {}
    if points:
        axes.plot(*zip(*points, strict=True), **style, **marker)


def _dress(axes: Axes) -> None:
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(fontsize=9, color=INK)


def _limit_epochs(axes: Axes, epochs: Sequence[int]) -> None:
    """Whole numbers only, with room for the dots at both ends."""
    from matplotlib.ticker import MaxNLocator

    first, last = (min(epochs), max(epochs)) if epochs else (1, 1)
    room = max(0.5, 0.015 * (last - first))
    axes.set_xlim(first - room, last + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
