"""Figures of probes: ROC curves, a confusion matrix, calibration, and the tiles of a bag by attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guidino_cli.plots.text import create_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

# Okabe and Ito's palette; dashes tell the curves apart in grey, too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))
_BINS = 10


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """Scores of one class by one row.

    Attributes:
        name: For the legend.
        scores: (N,) in [0, 1].
        truth: (N,) bool.
    """

    name: str
    scores: np.ndarray
    truth: np.ndarray


def plot_roc(panels: Sequence[tuple[str, Sequence[ScoreCurve]]]) -> Figure:
    """ROC curves, a panel a class; curves without positives or negatives are left out."""
    figure, panel_axes = _grid(len(panels))
    for axes, (title, curves) in zip(panel_axes, panels, strict=True):
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
        for number, curve in enumerate(curves):
            if curve.truth.any() and not curve.truth.all():
                fp, tp = roc_points(curve.scores, curve.truth)
                style = {"color": _COLOURS[number % 6], "linestyle": _DASHES[number % 6]}
                axes.plot(fp, tp, label=curve.name, linewidth=1.6, **style)
        axes.set(title=title, xlabel="false-positive rate", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01))
        axes.set_aspect("equal")
        axes.legend(loc="lower right", fontsize=8, frameon=False)
    return figure


def roc_points(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False- and true-positive rates from (0, 0) to (1, 1), a point for each distinct score.

    Args:
        scores: (N,).
        truth: (N,) bool, with positives and negatives.
    """
    order = np.argsort(-scores, kind="stable")
    tp, fp = np.cumsum(truth[order]), np.cumsum(~truth[order])
    last = np.concatenate([np.diff(scores[order]) != 0, [True]])
    return np.concatenate([[0], fp[last] / fp[-1]]), np.concatenate([[0], tp[last] / tp[-1]])


def plot_confusion(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """Counts (K, K), rows true and columns predicted, shaded by the share of the true class."""
    count = len(names)
    side = 2.2 + 0.55 * count
    figure = create_figure(figsize=(side + 0.4, side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(count):
        for column in range(count):
            colour = "white" if shares[row, column] > 0.55 else "black"
            text = f"{matrix[row, column]:,}\n{100 * shares[row, column]:.0f} %"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9 if count < 9 else 6)
    axes.set_xticks(range(count), names, rotation=45 if count > 3 else 0, ha="right" if count > 3 else "center")
    axes.set_yticks(range(count), names)
    axes.set(xlabel="predicted", ylabel="true")
    return figure


def plot_calibration(panels: Sequence[tuple[str, Sequence[ScoreCurve]]]) -> Figure:
    """Share of positives by score in tenths, a panel a class; areas of points go with the number of samples."""
    figure, panel_axes = _grid(len(panels))
    for axes, (title, curves) in zip(panel_axes, panels, strict=True):
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
        for number, curve in enumerate(curves):
            means, shares, counts = calibration_points(curve.scores, curve.truth)
            style = {"color": _COLOURS[number % 6], "linestyle": _DASHES[number % 6]}
            axes.plot(means, shares, label=curve.name, linewidth=1.2, **style)
            axes.scatter(means, shares, s=200 * counts / max(counts.sum(), 1) + 6, color=_COLOURS[number % 6])
        axes.set(title=title, xlabel="score", ylabel="share of positives", xlim=(0, 1), ylim=(0, 1))
        axes.set_aspect("equal")
        axes.legend(loc="upper left", fontsize=8, frameon=False)
    return figure


def calibration_points(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean score, share of positives and number of samples of each tenth of the scores that has any."""
    bins = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    used = counts > 0
    means = np.bincount(bins, scores, _BINS)[used] / counts[used]
    shares = np.bincount(bins, truth, _BINS)[used] / counts[used]
    return means, shares, counts[used]


def plot_attention(
    tiles: Sequence[np.ndarray],
    attention: Sequence[float],
    names: Sequence[str],
    *,
    title: str,
    left_out: int,
    profile: tuple[Sequence[int], Sequence[float]] | None = None,
) -> Figure:
    """Tiles of a bag in the order given, framed in the colour of their attention relative to the largest.

    Args:
        tiles: (H, W, 3) uint8 each.
        attention: Of each tile; all tiles of the bag sum to 1.
        names: Below the tiles.
        title: Of the figure.
        left_out: Tiles of the bag that are not drawn.
        profile: Numbers of all slices of a volume and their attention, drawn above the tiles; None for a bag of tiles.
    """
    from matplotlib import colormaps

    columns = min(8, max(1, math.ceil(math.sqrt(len(tiles) * 1.5))))
    rows = math.ceil(len(tiles) / columns)
    height = 1.85 * rows + 0.7
    figure = create_figure(figsize=(1.5 * columns + 0.3, height + (1.6 if profile else 0)), layout="constrained")
    figure.suptitle(title, fontsize=10)
    top = max(attention)
    place: FigureBase = figure
    if profile is not None:
        grid = figure.add_gridspec(2, 1, height_ratios=[1.6, height])
        place = figure.add_subfigure(grid[1])
        _draw_profile(figure.add_subfigure(grid[0]).subplots(), *profile)
    panels = np.atleast_1d(place.subplots(rows, columns, squeeze=False)).ravel()
    for axes in panels[len(tiles) :]:
        axes.set_axis_off()
    for axes, tile, weight, name in zip(panels, tiles, attention, names, strict=False):
        axes.imshow(tile)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(linewidth=4, color=colormaps["viridis"](weight / top if top else 0.0))
        axes.set_xlabel(f"{weight:.3f}\n{name[-18:]}", fontsize=7)
    what = "tiles" if profile is None else "slices"
    note = "attention, brighter frames have more" + (f"; {left_out} {what} with less are not drawn" if left_out else "")
    place.supxlabel(note, fontsize=8)
    return figure


def _draw_profile(axes: Axes, slices: Sequence[int], attention: Sequence[float]) -> None:
    """Attention of each slice at its place in the volume, and the even share."""
    width = 0.8 * min(np.diff(slices), default=1)
    axes.bar(slices, attention, width=width, color=_COLOURS[0])
    axes.axhline(1 / len(slices), color="0.5", linewidth=0.8, linestyle="--")
    axes.set(xlabel="slice (dashed: an even share)", ylabel="attention")
    axes.xaxis.label.set_fontsize(8)
    axes.yaxis.label.set_fontsize(8)
    axes.tick_params(labelsize=7)


def plot_attention_map(
    tiles: Sequence[np.ndarray], places: Sequence[tuple[int, int]], attention: Sequence[float], *, title: str
) -> Figure:
    """A slide of tiles at their places, and beside it the attention there.

    Args:
        tiles: (H, W, 3) uint8 each, of one size.
        places: Column and row of each tile in the grid of the slide.
        attention: Of each tile.
        title: Of the figure.
    """
    columns, rows = (max(place[axis] for place in places) + 1 for axis in (0, 1))
    side = min(64, max(8, 2048 // max(columns, rows)))
    slide = np.full((rows * side, columns * side, 3), 255, np.uint8)
    heat = np.full((rows, columns), np.nan)
    for tile, (column, row), weight in zip(tiles, places, attention, strict=True):
        steps = [np.linspace(0, length - 1, side).round().astype(int) for length in tile.shape[:2]]
        slide[row * side : (row + 1) * side, column * side : (column + 1) * side] = tile[np.ix_(*steps)]
        heat[row, column] = weight
    height = max(2.5, min(9.0, 4.5 * rows / columns)) + 0.8
    figure = create_figure(figsize=(10, height), layout="constrained")
    figure.suptitle(title, fontsize=10)
    left, right = figure.subplots(1, 2)
    left.imshow(slide)
    image = right.imshow(heat, cmap="viridis", vmin=0)
    figure.colorbar(image, ax=right, label="attention", shrink=0.8)
    for axes in (left, right):
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def _grid(count: int) -> tuple[Figure, list]:
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = create_figure(figsize=(3.6 * columns, 3.7 * rows), layout="constrained")
    panels = list(np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel())
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count]
