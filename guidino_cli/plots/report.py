"""Figures of reports: mask overlays, histograms as SVG, paired differences."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from guidino_cli.html import Markup, render
from guidino_cli.plots.text import create_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_NOTE_BELOW = 0.01
_BINS = 20
_BETTER, _WORSE = "#0072B2", "#D55E00"


@dataclass(frozen=True)
class PairedDifferences:
    """One panel of `plot_paired_differences`.

    Attributes:
        first: Name of the first set.
        second: Name of the second.
        label: Name of the metric, with its unit.
        values: One difference per case, without NaN.
        higher_is_better: Whether positive differences favour the second set.
        mean: Mean difference.
        ci: Its 95 % interval.
    """

    first: str
    second: str
    label: str
    values: np.ndarray
    higher_is_better: bool
    mean: float
    ci: tuple[float, float]


def plot_paired_differences(panels: Sequence[PairedDifferences]) -> Figure:
    """Bars of sorted differences, one panel below another; blue where the second set is better, else orange."""
    figure = create_figure(figsize=(7.5, 2.6 * len(panels) + 0.2), layout="constrained")
    for axes, panel in zip(np.ravel(figure.subplots(len(panels), 1, squeeze=False)), panels, strict=True):
        values = np.sort(panel.values)
        better = values > 0 if panel.higher_is_better else values < 0
        axes.bar(np.arange(len(values)), values, width=1.0, color=np.where(better, _BETTER, _WORSE))
        axes.axhline(0, color="black", linewidth=0.8)
        axes.axhspan(*panel.ci, color="black", alpha=0.12, linewidth=0)
        axes.axhline(panel.mean, color="black", linewidth=1.2, linestyle="--")
        gains, unequal = np.count_nonzero(better), np.count_nonzero(values)
        wins = f"{panel.second} better in {gains}, {panel.first} in {unequal - gains}, equal in {len(values) - unequal}"
        axes.set_title(f"{panel.label}, {panel.second} - {panel.first}: {wins}", fontsize=10, loc="left")
        largest = float(np.abs(values).max(initial=0))
        if 0 < largest < _NOTE_BELOW:
            # The axis is scaled to the data, so that bars may look tall without meaning anything.
            axes.text(0.01, 0.97, f"no difference above {largest:.1g}", transform=axes.transAxes, va="top", fontsize=9)
        axes.set_ylabel(f"difference of {panel.label}", fontsize=9)
        axes.set_xticks([])
        axes.set_xlim(-0.5, max(len(values), 1) - 0.5)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xlabel("cases, sorted; dashed: mean, grey: its 95 % interval", fontsize=9)
    return figure


def data_uri(image: Image.Image, *, kind: Literal["png", "webp"], max_width: int | None = None) -> str:
    """An image as a `data:` URI, so that a page needs no other file.

    Args:
        image: Any mode that PNG can store; WebP is written in RGB.
        kind: "png" keeps every pixel, "webp" takes far fewer bytes.
        max_width: Wider images are made smaller.
    """
    if max_width is not None and image.width > max_width:
        size = (max_width, max(1, round(image.height * max_width / image.width)))
        image = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    content = io.BytesIO()
    if kind == "webp":
        image.convert("RGB").save(content, format="WEBP", quality=82, method=4)
    else:
        image.save(content, format="PNG")
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


# Okabe and Ito's colour-blind-safe palette; the four also differ in lightness.
TRUE_POSITIVE = (240, 228, 66)
FALSE_POSITIVE = (213, 94, 0)
FALSE_NEGATIVE = (86, 180, 233)
WRONG_CLASS = (204, 121, 167)

OVERLAY_LEGEND = {
    "found (true positive)": TRUE_POSITIVE,
    "too much (false positive)": FALSE_POSITIVE,
    "missed (false negative)": FALSE_NEGATIVE,
    "wrong class": WRONG_CLASS,
}

_OPACITY = 0.45


def draw_overlay(image: np.ndarray | None, prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Colour true positives, false positives, false negatives and wrong classes; each region has an opaque edge.

    Args:
        image: (H, W, 3) uint8, or None for a dark background.
        prediction: (H, W) class indices.
        truth: (H, W) class indices.

    Returns:
        (H, W, 3) uint8.
    """
    background = np.full((*truth.shape, 3), 24, dtype=np.uint8) if image is None else image
    picture = background.astype(np.float32)
    predicted, true = prediction > 0, truth > 0
    parts = (
        (predicted & true & (prediction == truth), TRUE_POSITIVE),
        (predicted & ~true, FALSE_POSITIVE),
        (~predicted & true, FALSE_NEGATIVE),
        (predicted & true & (prediction != truth), WRONG_CLASS),
    )
    width = max(1, min(truth.shape) // 256)
    for part, colour in parts:
        edge = part & ~_eroded(part, width)
        picture[part] = (1 - _OPACITY) * picture[part] + _OPACITY * np.array(colour)
        picture[edge] = colour
    return picture.round().astype(np.uint8)


def downsample(picture: np.ndarray, longest: int) -> np.ndarray:
    """Average (H, W, 3) uint8 over blocks, so that no side exceeds `longest`."""
    step = -(-max(picture.shape[:2]) // longest)
    if step <= 1:
        return picture
    height, width = (size // step * step for size in picture.shape[:2])
    blocks = picture[:height, :width].reshape(height // step, step, width // step, step, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def histogram_svg(values: Sequence[float], *, title: str, is_share: bool, mean: float, median: float) -> Markup:
    """Histogram of a metric over cases; a solid line at the mean, a dashed one at the median.

    Args:
        values: Values of all cases; those that are not finite are left out.
        title: Above the bars, also read out by screen readers.
        is_share: The axis then runs from 0 to 1, else from 0 to the largest value.
        mean: Position of the solid line; none if not finite.
        median: Position of the dashed line; none if not finite.

    Returns:
        An SVG element; empty if no value is finite.
    """
    known = np.array([value for value in values if isfinite(value)])
    if not known.size:
        return Markup()
    top = 1.0 if is_share else max(float(known.max()), 1e-9)
    counts, _ = np.histogram(known, bins=_BINS, range=(0.0, top))
    width, height, left, base = 320, 150, 34, 126
    right = width - 8
    step = (right - left) / _BINS
    statistics = [(name, value) for name, value in (("mean", mean), ("median", median)) if isfinite(value)]
    return render(
        "histogram.svg.j2",
        title=title,
        width=width,
        height=height,
        left=left,
        right=right,
        base=base,
        bar_width=step - 1,
        bars=[(left + index * step + 0.5, 98 * count / counts.max(), count) for index, count in enumerate(counts)],
        lines=[(name, left + min(value / top, 1.0) * (right - left)) for name, value in statistics],
        largest_value=f"{top:.4g}",
        largest_count=counts.max(),
    )


def _eroded(mask: np.ndarray, width: int) -> np.ndarray:
    for _ in range(width):
        inner = mask.copy()
        inner[1:] &= mask[:-1]
        inner[:-1] &= mask[1:]
        inner[:, 1:] &= mask[:, :-1]
        inner[:, :-1] &= mask[:, 1:]
        mask = inner
    return mask
