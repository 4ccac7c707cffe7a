"""Figures and page style of reports: mask overlays, distributions as SVG, paired differences."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_SMALL = 0.01
_BETTER, _WORSE = "#0072B2", "#D55E00"


@dataclass(frozen=True)
class PairedDifferences:
    """One panel.

    Attributes:
        first: Name of the first set.
        second: Name of the second.
        label: What is subtracted, with its unit.
        values: One number a case, without NaN.
        higher_is_better: Which side is the better one.
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
    """Draw the panels below one another; blue bars are cases in which the second is better, orange ones the first."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 2.6 * len(panels) + 0.2), layout="constrained")
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
        if 0 < largest < _SMALL:
            # The axis fills the panel whatever it spans: bars that look tall may mean nothing.
            axes.text(0.01, 0.97, f"no difference above {largest:.1g}", transform=axes.transAxes, va="top", fontsize=9)
        axes.set_ylabel(f"difference of {panel.label}", fontsize=9)
        axes.set_xticks([])
        axes.set_xlim(-0.5, max(len(values), 1) - 0.5)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xlabel("cases, sorted; dashed: mean, grey: its 95 % interval", fontsize=9)
    return figure


STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882;--bar:#3f8fc5}
body{font:15px/1.5 system-ui,sans-serif;max-width:1020px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem} h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid var(--line)} h3{font-size:1rem}
.boxes{display:flex;flex-wrap:wrap;gap:.8rem}
.boxes div{border:1px solid var(--line);border-radius:6px;padding:.6rem 1rem}
.boxes b{display:block;font-size:1.6rem} .boxes span{font-weight:600} .boxes small{display:block;opacity:.75}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:right}
td:first-child,th:first-child,#cases :is(td,th):nth-child(-n+3),#cases :is(td,th):last-child{text-align:left}
.target td{font-weight:600;background:var(--soft)} .small{opacity:.75;font-size:.85rem}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(290px,1fr));gap:.8rem}
svg{width:100%;height:auto} svg rect{fill:var(--bar)} svg text{font:10px system-ui,sans-serif;fill:currentColor}
svg .title{font-size:12px;font-weight:600} svg line{stroke:currentColor;stroke-width:1.5}
svg .median{stroke-dasharray:4 3} svg .axis{stroke-width:.7}
.pictures{display:flex;flex-wrap:wrap;gap:1rem} figure{margin:0;width:310px} figure img{width:100%}
figcaption{font-size:.85rem;overflow-wrap:anywhere} .legend span{margin-right:1.2rem;white-space:nowrap}
.legend i{display:inline-block;width:.9em;height:.9em;margin-right:.4em;border:1px solid #555}
.fail{font-weight:600}
.scroll{max-height:36rem;overflow:auto} th{position:sticky;top:0;background:Canvas}
th button{all:unset;cursor:pointer;font-weight:600}
"""
"""Follows the reader's choice of a light or dark page; a table with the id `cases` is sorted by `SCRIPT`."""

SCRIPT = """
document.querySelectorAll('#cases th').forEach((head, place) => {
  let up = false;
  head.addEventListener('click', () => {
    const body = document.querySelector('#cases tbody'), rows = [...body.rows];
    up = !up;
    rows.sort((a, b) => {
      const x = a.cells[place].textContent, y = b.cells[place].textContent, d = parseFloat(x) - parseFloat(y);
      return (up ? 1 : -1) * (isNaN(d) ? x.localeCompare(y, undefined, {numeric: true}) : d);
    });
    body.append(...rows);
  });
});
"""


def webp_data_uri(picture: Image.Image, *, width: int) -> str:
    """A picture no wider than `width` pixels as an address that holds it, in as few bytes as look well."""
    content = io.BytesIO()
    scale = min(1.0, width / picture.width)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(content, format="WEBP", quality=82, method=4)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode("ascii")


# Okabe and Ito's palette, made for colour-blind readers; the four also differ in lightness.
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


def downsample(picture: np.ndarray, longest: int) -> np.ndarray:
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
