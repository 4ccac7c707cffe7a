"""Figures of a pretraining run: loss terms and collapse statistics over steps, and token maps of fixed images."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from guidino_cli.plots.panels import (
    DPI,
    TEXT_COLOUR,
    create_panels,
    panel_height,
    set_figure_title,
    set_panel_title,
    shorten,
    show_image,
)
from guidino_cli.plots.text import create_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
_NOT_TERMS = {
    "step", "stage", "lr", "weight_decay", "loss", "images_per_second", "seconds", "gradient_norm", "rank", "cosine",
}  # fmt: skip
_WIDTH = 1.5


@dataclass(frozen=True)
class TokenTimeline:
    """One image and its token maps at some steps.

    Attributes:
        name: File name of the image.
        pixels: (H, W, 3) uint8.
        components: Principal components of its tokens at each step, (h, w, 3) in [0, 1].
    """

    name: str
    pixels: np.ndarray
    components: Sequence[np.ndarray]


def pretraining_figure(history: Sequence[Mapping[str, Any]], *, name: str = "") -> Figure:
    """Loss terms, entropies if there are any, and effective rank with mean cosine, over the steps.

    Args:
        history: Rows of `history.jsonl`, at least one.
        name: Title.

    Returns:
        A figure without a window; save it with `savefig`.
    """
    names = list(dict.fromkeys(key for row in history for key in row if key not in _NOT_TERMS))
    entropies = [key for key in names if key.endswith("entropy")]
    panels = 2 + bool(entropies)
    figure = create_figure(figsize=(7.0, 1.0 + 2.2 * panels), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True)
    _draw(axes[0], history, ["loss", *(key for key in names if key not in entropies)], label="terms, weighted")
    if entropies:
        _draw(axes[1], history, entropies, label="entropy, nats")
    _draw_feature_statistics(axes[-1], history)
    _mark_stages(axes, history)
    axes[-1].set_xlabel("step", fontsize=9, color=TEXT_COLOUR)
    if name:
        figure.suptitle(shorten(name, 70), fontsize=9.5, color=TEXT_COLOUR, x=0.02, ha="left", weight="bold")
    return figure


def token_sheet_figure(timelines: Sequence[TokenTimeline], *, steps: Sequence[int], name: str) -> Figure:
    """One row per image: the image, then the principal components of its tokens at each of the steps.

    Args:
        timelines: At least one.
        steps: As many as every timeline has components.
        name: Title.
    """
    sizes = [(timeline.pixels.shape[0], timeline.pixels.shape[1]) for timeline in timelines]
    heights = [panel_height(size_hw, width=_WIDTH) for size_hw in sizes]
    figure, rows = create_panels(heights, 1 + len(steps), width=_WIDTH, margins=(0.1, 0.1, 0.8, 0.1))
    for timeline, size_hw, panels in zip(timelines, sizes, rows, strict=True):
        show_image(panels[0], timeline.pixels, size_hw=size_hw)
        for axes, components in zip(panels[1:], timeline.components, strict=True):
            show_image(axes, components, size_hw=size_hw, smooth=False)
    set_panel_title(rows[0][0], "image")
    for axes, step in zip(rows[0][1:], steps, strict=True):
        set_panel_title(axes, f"step {step:,}")
    # The sheet of the first steps is narrow.
    rest = "; colours differ between panels" if len(steps) > 2 else ""
    set_figure_title(figure, shorten(name, 14 * (1 + len(steps))), note=f"principal components{rest}")
    return figure


def _draw(axes: Axes, history: Sequence[Mapping[str, Any]], names: Sequence[str], *, label: str) -> None:
    for number, key in enumerate(names):
        points = [(row["step"], row[key]) for row in history if key in row]
        style: dict[str, Any] = {"color": _COLOURS[number % 6], "linestyle": _DASHES[number % 6], "linewidth": 1.3}
        if key == "loss":
            style = {"color": TEXT_COLOUR, "linewidth": 1.8}
        axes.plot(*zip(*points, strict=True), label=key.replace("_", " "), **style, **_marker(points))
    _style_axes(axes, label)
    axes.legend(
        fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=min(len(names), 6), borderaxespad=0.2
    )


def _draw_feature_statistics(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    """Effective rank on the left axis, mean cosine on the right."""
    other = axes.twinx()
    for panel, key, colour, line in ((axes, "rank", _COLOURS[0], "-"), (other, "cosine", _COLOURS[1], "--")):
        points = [(row["step"], row[key]) for row in history if key in row]
        if points:
            panel.plot(*zip(*points, strict=True), color=colour, linestyle=line, linewidth=1.3, **_marker(points))
    _style_axes(axes, "effective rank")
    _style_axes(other, "mean cosine (dashed)")
    axes.yaxis.label.set_color(_COLOURS[0])
    other.yaxis.label.set_color(_COLOURS[1])
    other.grid(visible=False)
    other.spines["right"].set_visible(True)
    axes.set_ylim(0, 1.08 * max((row.get("rank", 1.0) for row in history), default=1.0))
    other.set_ylim(-0.05, 1.05)


def _mark_stages(panels: Sequence[Axes], history: Sequence[Mapping[str, Any]]) -> None:
    """Draw a vertical line at the start of each stage."""
    for before, after in itertools.pairwise(history):
        if before["stage"] != after["stage"]:
            for axes in panels:
                axes.axvline(before["step"], color="#999999", linewidth=0.8, linestyle=":")


def _style_axes(axes: Axes, label: str) -> None:
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=TEXT_COLOUR)
    axes.set_ylabel(label, fontsize=9, color=TEXT_COLOUR)


def _marker(points: Sequence[Any]) -> dict[str, Any]:
    return {"marker": "o", "markersize": 3.0} if len(points) <= 40 else {}
