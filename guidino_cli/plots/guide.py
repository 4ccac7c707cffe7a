"""What a guide or a frozen backbone sees in one image, drawn for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from guidino_cli.plots.panels import (
    GUIDE_COLOURS,
    bar_below,
    board,
    guide_over,
    head,
    heading,
    legend_below,
    outline,
    panel_height,
    short,
    show,
    thumbnail,
    thumbnail_map,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 2.4
_BELOW = 0.5


def guide_panel(
    image: np.ndarray,
    guide: np.ndarray,
    labels: np.ndarray,
    *,
    name: str,
    classes: Sequence[str],
    source: str = "",
    truth: np.ndarray | None = None,
    dice: float | None = None,
) -> Figure:
    """Image, guide map over the image, outlined prediction and, if given, outlined truth.

    The colours of the guide run from 0 to 1 in every figure, so that two guides can be compared; the range that occurs
    is written above the map and marked on the bar.

    Args:
        image: (H, W, 3) uint8.
        guide: (H, W) in [0, 1].
        labels: (H, W) predicted class indices.
        name: Heading, such as the name of the file.
        classes: Class names, the background first.
        source: What the guide is from, such as the name of the run.
        truth: (H, W) true class indices.
        dice: Shown above the prediction.

    Returns:
        A figure that belongs to no window; save it with `savefig`.
    """
    size_hw = labels.shape
    columns = 3 if truth is None else 4
    figure, [panels] = board([panel_height(size_hw, width=_WIDTH)], columns, width=_WIDTH)
    small = thumbnail(image)
    show(panels[0], small, size_hw=size_hw)
    head(panels[0], "image", f"{size_hw[1]} x {size_hw[0]} px")
    show(panels[1], guide_over(small, thumbnail_map(guide)), size_hw=size_hw)
    low, high = float(guide.min()), float(guide.max())
    head(panels[1], "guide", f"from {low:.2f} to {high:.2f}")
    bar_below(panels[1], "guide value", marks=(low, high), over_image=True)
    outlined = [("prediction", labels, "" if dice is None else f"Dice {dice:.3f}")]
    outlined += [] if truth is None else [("truth", truth, "")]
    for panel, (title, mask, note) in zip(panels[2:], outlined, strict=True):
        show(panel, small, size_hw=size_hw)
        outline(panel, mask)
        head(panel, title, ", ".join(part for part in (note, _covered(mask)) if part))
    heading(figure, short(name, 15 * columns), note=short(source, 20 * columns))
    legend_below(figure, classes, x=0.1 + 2 * (_WIDTH + 0.12), y=_BELOW - 0.07)
    return figure


def backbone_panel(
    image: np.ndarray,
    components: np.ndarray,
    similarity: np.ndarray,
    *,
    patch: tuple[int, int],
    name: str,
    explained: float,
    chosen: str,
    source: str = "",
    labels: np.ndarray | None = None,
) -> Figure:
    """Image, principal components of the tokens as colours, and the cosine of every token with one of them.

    Cells are drawn as squares: one square is one token. The colours of the cosine run from 0 to 1 in every figure;
    negative cosines share the colour of 0.

    Args:
        image: (H, W, 3) uint8.
        components: (h, w, 3) in [0, 1]: the first, second and third component as red, green and blue.
        similarity: (h, w) cosines in [-1, 1].
        patch: Row and column of the token that the others are compared with; framed in all panels.
        name: Heading, such as the name of the file.
        explained: Share of the tokens' variance within the three components.
        chosen: How the patch was chosen, such as "salient" or "at 10,20".
        source: What the tokens are from, such as the backbone and its block.
        labels: (H, W) class indices to outline on the image.

    Returns:
        A figure that belongs to no window; save it with `savefig`.
    """
    size_hw = (image.shape[0], image.shape[1])
    figure, [panels] = board([panel_height(size_hw, width=_WIDTH)], 3, width=_WIDTH)
    show(panels[0], thumbnail(image), size_hw=size_hw)
    if labels is not None:
        outline(panels[0], labels)
    head(panels[0], "image", f"{size_hw[1]} x {size_hw[0]} px{'' if labels is None else ', truth outlined'}")
    show(panels[1], components, size_hw=size_hw, smooth=False)
    h, w = similarity.shape
    head(panels[1], "principal components as RGB", f"{explained:.0%} of the variance, {w} x {h} tokens")
    show(panels[2], _coloured(similarity), size_hw=size_hw, smooth=False)
    head(panels[2], "cosine with the framed patch", f"{chosen}; from {similarity.min():.2f} to {similarity.max():.2f}")
    bar_below(panels[2], "cosine similarity", extend="min" if similarity.min() < 0 else "neither")
    for panel in panels:
        _frame(panel, patch, grid_hw=(h, w), size_hw=size_hw)
    heading(figure, short(name, 44), note=short(source, 60))
    return figure


def _coloured(similarity: np.ndarray) -> np.ndarray:
    from matplotlib import colormaps

    return np.asarray(colormaps[GUIDE_COLOURS](np.clip(similarity, 0, 1))[..., :3])


def _frame(axes: Axes, patch: tuple[int, int], *, grid_hw: tuple[int, int], size_hw: tuple[int, int]) -> None:
    """A red frame with a white rim, half a cell away from one cell of a grid that covers the image."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    cell_h, cell_w = size_hw[0] / grid_hw[0], size_hw[1] / grid_hw[1]
    corner = ((patch[1] - 0.5) * cell_w - 0.5, (patch[0] - 0.5) * cell_h - 0.5)
    frame = Rectangle(corner, 2 * cell_w, 2 * cell_h, fill=False, edgecolor="#d62728", linewidth=1.1, clip_on=False)
    frame.set_path_effects([Stroke(linewidth=2.4, foreground="white"), Normal()])
    axes.add_patch(frame)


def _covered(labels: np.ndarray) -> str:
    share = float((labels > 0).mean())
    return "nothing found" if share == 0 else f"{share:.1%} of the image"
