"""Pictures of an evaluation: masks over their image in colours everybody can tell apart, and distributions as SVG."""

from collections.abc import Sequence
from html import escape
from math import isfinite

import numpy as np

# Okabe and Ito's palette, made for colour-blind readers; the four also differ in lightness.
TRUE_POSITIVE = (240, 228, 66)
FALSE_POSITIVE = (213, 94, 0)
FALSE_NEGATIVE = (86, 180, 233)
WRONG_CLASS = (204, 121, 167)

LEGEND = {
    "found (true positive)": TRUE_POSITIVE,
    "too much (false positive)": FALSE_POSITIVE,
    "missed (false negative)": FALSE_NEGATIVE,
    "wrong class": WRONG_CLASS,
}

_OPACITY = 0.45


def overlay(image: np.ndarray | None, prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Colour what was found, invented and missed; each patch has a full-coloured edge.

    Args:
        image: (H, W, 3) uint8, or None for a dark ground.
        prediction: (H, W) class indices.
        truth: (H, W) class indices.

    Returns:
        (H, W, 3) uint8.
    """
    ground = np.full((*truth.shape, 3), 24, dtype=np.uint8) if image is None else image
    picture = ground.astype(np.float32)
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


def shrink(picture: np.ndarray, longest: int) -> np.ndarray:
    """Fewer pixels for a page: (H, W, 3) uint8 with no side above `longest`, averaged over blocks."""
    step = -(-max(picture.shape[:2]) // longest)
    if step <= 1:
        return picture
    height, width = (size // step * step for size in picture.shape[:2])
    blocks = picture[:height, :width].reshape(height // step, step, width // step, step, 3)
    return blocks.mean(axis=(1, 3)).round().astype(np.uint8)


def histogram_svg(values: Sequence[float], *, title: str, is_share: bool, mean: float, median: float) -> str:
    """How many cases have which value; a solid line at the mean, a dashed one at the median.

    Args:
        values: Finite figures are drawn; others are counted in the title by the caller.
        title: Above the picture, also read out by screen readers.
        is_share: The axis then runs from 0 to 1.
        mean: Position of the solid line.
        median: Position of the dashed line.
    """
    known = np.array([value for value in values if isfinite(value)])
    if not known.size:
        return ""
    top = 1.0 if is_share else max(float(known.max()), 1e-9)
    counts, _ = np.histogram(known, bins=20, range=(0.0, top))
    width, height, left, base = 320, 150, 34, 126
    step = (width - left - 8) / 20
    bars = []
    for index, count in enumerate(counts):
        tall = 98 * count / counts.max()
        place = f'x="{left + index * step + 0.5:.1f}" y="{base - tall:.1f}"'
        bars.append(f'<rect {place} width="{step - 1:.1f}" height="{tall:.1f}"><title>{count} cases</title></rect>')
    lines = []
    for name, value in (("mean", mean), ("median", median)):
        if isfinite(value):
            x = f"{left + min(value / top, 1.0) * step * 20:.1f}"
            lines.append(f'<line class="{name}" x1="{x}" x2="{x}" y1="24" y2="{base}"/>')
    labels = (
        f'<text x="{left}" y="14" class="title">{escape(title)}</text>'
        f'<text x="{left}" y="{base + 15}">0</text>'
        f'<text x="{width - 8}" y="{base + 15}" text-anchor="end">{top:.4g}</text>'
        f'<text x="{left - 4}" y="34" text-anchor="end">{counts.max()}</text>'
        f'<line class="axis" x1="{left}" x2="{width - 8}" y1="{base}" y2="{base}"/>'
    )
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}: distribution over cases">'
    return head + labels + "".join(bars) + "".join(lines) + "</svg>"


def _eroded(mask: np.ndarray, width: int) -> np.ndarray:
    for _ in range(width):
        inner = mask.copy()
        inner[1:] &= mask[:-1]
        inner[:-1] &= mask[1:]
        inner[:, 1:] &= mask[:, :-1]
        inner[:, :-1] &= mask[:, 1:]
        mask = inner
    return mask
