"""What a backbone sees in one image: principal components of its tokens, and who resembles whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from guidino_cli.plots.bars import bar_below
from guidino_cli.plots.colours import coloured
from guidino_cli.plots.marks import scale_bar
from guidino_cli.plots.panels import board, head, heading, outline, panel_height, short, show
from guidino_cli.plots.thumbnails import thumbnail
from guidino_cli.plots.views import TokenView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 2.4


def backbone_panel(
    image: np.ndarray,
    tokens: TokenView,
    *,
    name: str,
    chosen: str,
    source: str = "",
    labels: np.ndarray | None = None,
    spacing_mm: float | None = None,
) -> Figure:
    """Image, principal components of the tokens as colours, and the cosine of every token with one of them.

    Cells are drawn as squares: one square is one token. The colours of the cosine run from 0 to 1 in every figure;
    negative cosines share the colour of 0.

    Args:
        image: (H, W, 3) uint8.
        tokens: What the backbone says about it.
        name: Heading, such as the name of the file.
        chosen: How the patch was chosen, such as "salient patch" or "patch at 10,20".
        source: What the tokens are from, such as the backbone and its block.
        labels: (H, W) class indices to outline on the image.
        spacing_mm: Width of a pixel, if known.

    Returns:
        A figure that belongs to no window; save it with `savefig`.
    """
    size_hw = (image.shape[0], image.shape[1])
    figure, [panels] = board([panel_height(size_hw, width=_WIDTH)], 3, width=_WIDTH)
    show(panels[0], thumbnail(image), size_hw=size_hw)
    scale_bar(panels[0], size_hw=size_hw, spacing_mm=spacing_mm)
    if labels is not None:
        outline(panels[0], labels)
    head(panels[0], "image", f"{size_hw[1]} x {size_hw[0]} px{'' if labels is None else ', truth outlined'}")
    draw_components(panels[1], tokens=tokens, size_hw=size_hw)
    draw_cosine(panels[2], tokens=tokens, size_hw=size_hw, chosen=chosen)
    draw_frame(panels[0], tokens, size_hw=size_hw)
    heading(figure, short(name, 44), note=short(source, 60))
    return figure


def draw_components(axes: Axes, *, tokens: TokenView, size_hw: tuple[int, int]) -> None:
    show(axes, tokens.components, size_hw=size_hw, smooth=False)
    h, w = tokens.similarity.shape
    share = f"{tokens.explained:.0%}" if tokens.title else f"{tokens.explained:.0%} of the variance"
    detail = f"{share}, {w} x {h} tokens"
    head(axes, "principal components as RGB", ", ".join(part for part in (tokens.title, detail) if part))
    draw_frame(axes, tokens, size_hw=size_hw)


def draw_cosine(axes: Axes, *, tokens: TokenView, size_hw: tuple[int, int], chosen: str) -> None:
    values = tokens.similarity
    show(axes, coloured(values), size_hw=size_hw, smooth=False)
    ends = f"from {values.min():.2f} to {values.max():.2f}"
    kind = ", ".join(part for part in (tokens.title, chosen) if part)
    head(axes, "cosine with the framed patch", "; ".join(part for part in (kind, ends) if part))
    bar_below(axes, "cosine similarity", extend="min" if values.min() < 0 else "neither")
    draw_frame(axes, tokens, size_hw=size_hw)


def draw_frame(axes: Axes, tokens: TokenView, *, size_hw: tuple[int, int]) -> None:
    """A red frame with a white rim, half a cell away from one cell of a grid that covers the image."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    (row, column), (h, w) = tokens.patch, tokens.similarity.shape
    cell_h, cell_w = size_hw[0] / h, size_hw[1] / w
    # At the border of the image half of the frame would lie in the next panel.
    left, right = max(0.0, (column - 0.5) * cell_w), min(float(size_hw[1]), (column + 1.5) * cell_w)
    top, bottom = max(0.0, (row - 0.5) * cell_h), min(float(size_hw[0]), (row + 1.5) * cell_h)
    corner, lengths = (left - 0.5, top - 0.5), (right - left, bottom - top)
    frame = Rectangle(corner, *lengths, fill=False, edgecolor="#d62728", linewidth=1.1, clip_on=False)
    frame.set_path_effects([Stroke(linewidth=2.4, foreground="white"), Normal()])
    axes.add_patch(frame)
