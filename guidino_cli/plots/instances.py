"""Figures of instances: true and predicted ones side by side, and the curve of the merging threshold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guidino_cli.plots.annotations import label_row
from guidino_cli.plots.panels import (
    TEXT_COLOUR,
    create_panels,
    panel_height,
    set_figure_title,
    shorten,
    show_image,
)
from guidino_cli.plots.text import create_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colour-blind-safe palette.
INSTANCE_LEGEND = {
    "found": (0, 158, 115),
    "split": (230, 159, 0),
    "merged": (204, 121, 167),
    "split and merged": (213, 94, 0),
    "missed": (86, 180, 233),
    "predicted in the background": (150, 150, 150),
}
_WIDTH, _GAP, _LEFT = 2.4, 0.08, 1.25
_OPACITY = 0.55
_GOLDEN = 0.618034
"""Step on the circle of hues after which numbers that follow each other look different."""


@dataclass(frozen=True)
class InstanceRow:
    """One case.

    Attributes:
        name: Case id.
        score: Score, such as "ARE 0.012".
        image: (H, W) greys in [0, 1].
        truth: (H, W) instance numbers, 0 is the background.
        labels: (H, W) predicted instance numbers.
    """

    name: str
    score: str
    image: np.ndarray
    truth: np.ndarray
    labels: np.ndarray


def draw_instance_grid(rows: Sequence[InstanceRow], *, name: str) -> Figure:
    """Draw one row per case: image, true instances, predicted instances in the colour of the true one below them.

    Args:
        rows: At least one.
        name: Title.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    titles = ("image", "true instances", "predicted, in the colour of the true one")
    heights = [panel_height(row.labels.shape, width=_WIDTH) for row in rows]
    figure, panels = create_panels(heights, len(titles), width=_WIDTH, gap=_GAP, margins=(_LEFT, 0.1, 0.55, 0.12))
    for title, panel in zip(titles, panels[0], strict=True):
        panel.annotate(
            title, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=8, color=TEXT_COLOUR
        )
    for row, line in zip(rows, panels, strict=True):
        partners = dominant_partner(row.labels, row.truth)
        grey = np.repeat(row.image[..., None], 3, axis=2)
        pictures = (grey, _coloured(row.image, row.truth), _coloured(row.image, row.labels, partners))
        for panel, picture in zip(line, pictures, strict=True):
            show_image(panel, (255 * picture.clip(0, 1)).round().astype(np.uint8), size_hw=row.labels.shape)
        label_row(line[0], row.name, row.score, fontsize=9)
    set_figure_title(figure, shorten(name, 90))
    return figure


def draw_threshold_curve(
    thresholds: Sequence[float], scores: Mapping[str, Sequence[float]], *, chosen: float, name: str
) -> Figure:
    """Draw scores over the merging threshold, the first on the left axis, the others on the right one."""
    figure = create_figure(figsize=(6.4, 3.6), dpi=150)
    axes = figure.add_axes((0.1, 0.14, 0.79, 0.72))
    other = axes.twinx()
    for number, (label, values) in enumerate(scores.items()):
        (other if number else axes).plot(
            thresholds, values, marker="o", markersize=3, label=label, color=("#1a1a1a", "#d95f02", "#7570b3")[number]
        )
    axes.axvline(chosen, color="#888888", linewidth=1, linestyle="--")
    axes.set(xlabel="threshold: regions are merged while their affinity is above it", ylabel=next(iter(scores)))
    axes.set_ylim(bottom=0)
    other.set_ylim(bottom=0)
    other.set_ylabel("variation of information (bits)")
    handles = [*axes.get_lines()[:1], *other.get_lines()]
    axes.legend(handles, [str(handle.get_label()) for handle in handles], fontsize=7, frameon=False)
    axes.set_title(f"{shorten(name, 70)}; chosen {chosen:g}", fontsize=9, loc="left")
    return figure


def instance_errors(
    image: np.ndarray | None,
    prediction: np.ndarray,
    truth: np.ndarray,
    *,
    statuses: Mapping[int, str],
    extra: Collection[int],
) -> np.ndarray:
    """True instances in the colour of their status, and beside them the predicted ones in that of the true one below.

    Args:
        image: (H, W) greys in [0, 1], or None for a dark background.
        prediction: (H, W) predicted instance numbers.
        truth: (H, W) true instance numbers.
        statuses: What became of each true instance, a key of `INSTANCE_LEGEND`.
        extra: Predicted instances that lie mostly in the background.

    Returns:
        (H, 2 W + gap, 3) uint8; white lines separate instances.
    """
    grey = np.full(truth.shape, 0.1) if image is None else image
    colours = {number: INSTANCE_LEGEND[name] for number, name in statuses.items()}
    below = dominant_partner(prediction, truth)
    of_background = INSTANCE_LEGEND["predicted in the background"]
    predicted = {number: colours.get(other, of_background) for number, other in below.items()}
    predicted |= dict.fromkeys(extra, of_background)
    left, right = _filled(grey, truth, colours), _filled(grey, prediction, predicted)
    gap = np.ones((len(left), max(2, truth.shape[1] // 50), 3))
    return np.asarray((255 * np.concatenate((left, gap, right), axis=1)).round().astype(np.uint8))


def _filled(grey: np.ndarray, labels: np.ndarray, colours: Mapping[int, tuple[int, int, int]]) -> np.ndarray:
    """(H, W, 3): instances in given colours over the grey image, with white lines between them."""
    numbers, place = np.unique(labels, return_inverse=True)
    table = np.array([colours.get(int(number), (0, 0, 0)) for number in numbers], dtype=np.float64) / 255
    return _blended(grey, labels, table[place.reshape(labels.shape)])


def dominant_partner(labels: np.ndarray, others: np.ndarray) -> dict[int, int]:
    """Number, for each instance, of the other side's instance that covers most of it; 0 if that is the background."""
    pairs, counts = np.unique(np.stack((labels.ravel(), others.ravel())), axis=1, return_counts=True)
    order = np.argsort(counts, kind="stable")
    return {int(own): int(other) for own, other in pairs[:, order].T if own}


def _coloured(grey: np.ndarray, labels: np.ndarray, colours: Mapping[int, int] | None = None) -> np.ndarray:
    """(H, W, 3): instances in their colour over the grey image, with white lines between them.

    Args:
        grey: (H, W) in [0, 1].
        labels: (H, W) instance numbers.
        colours: Number of another instance whose colour each one takes; 0 for white. None for its own.
    """
    from matplotlib.colors import hsv_to_rgb

    numbers, place = np.unique(labels, return_inverse=True)
    keys = np.array([int(number) if colours is None else colours.get(int(number), 0) for number in numbers])
    hues = np.stack((keys * _GOLDEN % 1, np.where(keys > 0, 0.85, 0.0), np.ones(len(keys))), axis=1)
    return _blended(grey, labels, hsv_to_rgb(hues)[place.reshape(labels.shape)])


def _blended(grey: np.ndarray, labels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    base = np.repeat(grey[..., None], 3, axis=2)
    picture = np.where((labels > 0)[..., None], _OPACITY * colour + (1 - _OPACITY) * base, base)
    picture[edges_between(labels)] = 1.0
    return picture


def edges_between(labels: np.ndarray) -> np.ndarray:
    """Pixels (H, W) of an instance whose right or lower neighbour is of another one, or none."""
    edges = np.zeros(labels.shape, dtype=bool)
    edges[:-1] |= labels[:-1] != labels[1:]
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return edges
