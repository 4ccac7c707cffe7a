"""Figures of backbone tokens: principal components, cosine similarities, and patches nearest to prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guidino_cli.plots.annotations import add_colorbar, add_scale_bar
from guidino_cli.plots.panels import (
    DPI,
    MUTED_COLOUR,
    TEXT_COLOUR,
    apply_colormap,
    create_panels,
    draw_class_contours,
    panel_height,
    set_figure_title,
    set_panel_title,
    shorten,
    show_image,
    thumbnail,
)
from guidino_cli.plots.text import create_figure
from guidino_cli.plots.views import TokenView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_CELL, _LABEL, _GAP = 0.86, 1.75, 0.06
_CAPTION, _TOP, _BOTTOM = 0.2, 0.78, 0.05
# All in inches.


@dataclass(frozen=True)
class PatchCrop:
    """A patch with its surroundings.

    Attributes:
        pixels: (h, w, 3) uint8.
        frame: Top, left, bottom and right of the patch itself, as fractions of the crop.
        caption: Text below, such as the similarity.
    """

    pixels: np.ndarray
    frame: tuple[float, float, float, float]
    caption: str


@dataclass(frozen=True)
class PatchCropRow:
    """The patches of one prototype.

    Attributes:
        title: Title, such as "prototype 12".
        lines: Facts under the title.
        crops: Best first.
    """

    title: str
    lines: Sequence[str]
    crops: Sequence[PatchCrop]


def prototype_sheet(rows: Sequence[PatchCropRow], *, heading: str, notes: Sequence[str]) -> Figure:
    """Draw rows of crops, the patch itself framed in each.

    Args:
        rows: At least one with a crop.
        heading: Bold, at the top.
        notes: Up to two lines below that explain the numbers.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    columns = max(8, *(len(row.crops) for row in rows))
    width = 0.1 + _LABEL + columns * (_CELL + _GAP) + 0.05
    height = _TOP + len(rows) * (_CELL + _CAPTION + _GAP) + _BOTTOM
    figure = create_figure(figsize=(width, height), dpi=DPI, facecolor="white")
    figure.text(0.1 / width, 1 - 0.08 / height, heading, fontsize=9.5, weight="bold", va="top", color=TEXT_COLOUR)
    for number, note in enumerate(notes):
        figure.text(0.1 / width, 1 - (0.29 + 0.17 * number) / height, note, fontsize=8, va="top", color=MUTED_COLOUR)
    for number, row in enumerate(rows):
        top = height - _TOP - number * (_CELL + _CAPTION + _GAP)
        _label(figure, row, top=top)
        for place, crop in enumerate(row.crops):
            left = 0.1 + _LABEL + place * (_CELL + _GAP)
            box = (left / width, (top - _CELL) / height, _CELL / width, _CELL / height)
            _draw(figure.add_axes(box), crop)
    return figure


def _label(figure: Figure, row: PatchCropRow, *, top: float) -> None:
    width, height = figure.get_size_inches()
    figure.text(0.1 / width, (top - 0.05) / height, shorten(row.title, 26), fontsize=9, va="top", color=TEXT_COLOUR)
    for number, line in enumerate(row.lines):
        y = (top - 0.26 - 0.15 * number) / height
        figure.text(0.1 / width, y, line, fontsize=7.5, va="top", color=MUTED_COLOUR)


def _draw(axes: Axes, crop: PatchCrop) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    axes.imshow(crop.pixels, extent=(0, 1, 1, 0), aspect="auto", interpolation="antialiased")
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
    for spine in axes.spines.values():
        spine.set_visible(False)
    top, left, bottom, right = crop.frame
    frame = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="white", linewidth=0.9)
    frame.set_path_effects([Stroke(linewidth=2.0, foreground="black"), Normal()])
    axes.add_patch(frame)
    axes.annotate(
        crop.caption, (0.5, 0), (0, -3), xycoords="axes fraction", textcoords="offset points", ha="center", va="top",
        fontsize=7.5, color=TEXT_COLOUR,
    )  # fmt: skip


_WIDTH = 2.4


def backbone_figure(
    image: np.ndarray,
    tokens: TokenView,
    *,
    name: str,
    chosen: str,
    source: str = "",
    labels: np.ndarray | None = None,
    spacing_mm: float | None = None,
) -> Figure:
    """Draw an image, the principal components of its tokens as colours, and their cosines with one of them.

    Cells are drawn as squares: one square is one token. The colours of the cosine run from 0 to 1 in every figure;
    negative cosines share the colour of 0.

    Args:
        image: (H, W, 3) uint8.
        tokens: Its tokens.
        name: Title, such as the file name.
        chosen: How the patch was chosen, such as "salient patch" or "patch at 10,20".
        source: Where the tokens are from, such as the backbone and its block.
        labels: (H, W) class indices to outline on the image.
        spacing_mm: Width of a pixel, if known.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    size_hw = (image.shape[0], image.shape[1])
    figure, [panels] = create_panels([panel_height(size_hw, width=_WIDTH)], 3, width=_WIDTH)
    show_image(panels[0], thumbnail(image), size_hw=size_hw)
    add_scale_bar(panels[0], size_hw=size_hw, spacing_mm=spacing_mm)
    if labels is not None:
        draw_class_contours(panels[0], labels)
    set_panel_title(panels[0], "image", f"{size_hw[1]} x {size_hw[0]} px{'' if labels is None else ', truth outlined'}")
    draw_components(panels[1], tokens=tokens, size_hw=size_hw)
    draw_cosine(panels[2], tokens=tokens, size_hw=size_hw, chosen=chosen)
    draw_patch_frame(panels[0], tokens, size_hw=size_hw)
    set_figure_title(figure, shorten(name, 44), note=shorten(source, 60))
    return figure


def draw_components(axes: Axes, *, tokens: TokenView, size_hw: tuple[int, int]) -> None:
    show_image(axes, tokens.components, size_hw=size_hw, smooth=False)
    h, w = tokens.similarity.shape
    share = f"{tokens.explained:.0%}" if tokens.title else f"{tokens.explained:.0%} of the variance"
    detail = f"{share}, {w} x {h} tokens"
    set_panel_title(axes, "principal components as RGB", ", ".join(part for part in (tokens.title, detail) if part))
    draw_patch_frame(axes, tokens, size_hw=size_hw)


def draw_cosine(axes: Axes, *, tokens: TokenView, size_hw: tuple[int, int], chosen: str) -> None:
    values = tokens.similarity
    show_image(axes, apply_colormap(values), size_hw=size_hw, smooth=False)
    ends = f"from {values.min():.2f} to {values.max():.2f}"
    kind = ", ".join(part for part in (tokens.title, chosen) if part)
    set_panel_title(axes, "cosine with the framed patch", "; ".join(part for part in (kind, ends) if part))
    add_colorbar(axes, "cosine similarity", extend="min" if values.min() < 0 else "neither")
    draw_patch_frame(axes, tokens, size_hw=size_hw)


def draw_patch_frame(axes: Axes, tokens: TokenView, *, size_hw: tuple[int, int]) -> None:
    """Draw a red frame with a white rim around the compared patch, half a cell away from it."""
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
