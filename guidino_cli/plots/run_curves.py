"""Validation Dice of several runs in one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

from guidino_cli.plots.history import COLOURS, DASHES, limit_epochs, style_axes
from guidino_cli.plots.panels import DPI, shorten
from guidino_cli.plots.text import create_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_MARKERS = 40


def validation_curves(runs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> Figure:
    """Plot the validation Dice of each run by epoch, with a star at its best.

    Args:
        runs: Name and history of each, as in `history.jsonl`; one that was never validated has no line.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    figure = create_figure(figsize=(6.5, 3.2), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.subplots()
    for index, (name, history) in enumerate(runs):
        measured = [row for row in history if isfinite(row.get("val_dice", nan))]
        if not measured:
            continue
        epochs, scores = [row["epoch"] for row in measured], [row["val_dice"] for row in measured]
        colour = COLOURS[index % len(COLOURS)]
        marker: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(epochs) <= _MAX_MARKERS else {}
        dash = DASHES[index // len(COLOURS) % len(DASHES)]
        axes.plot(epochs, scores, color=colour, linestyle=dash, linewidth=1.5, label=shorten(name, 40), **marker)
        best = max(range(len(scores)), key=scores.__getitem__)
        axes.plot([epochs[best]], [scores[best]], marker="*", markersize=12, color=colour, markeredgecolor="white")
    axes.set_ylabel("validation Dice")
    axes.set_xlabel("epoch")
    axes.set_ylim(0, 1)
    style_axes(axes)
    limit_epochs(axes, [row["epoch"] for _, history in runs for row in history])
    if axes.lines:
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    return figure
