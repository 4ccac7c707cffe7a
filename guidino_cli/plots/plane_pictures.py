"""Pictures of slices in colours: grey values, outlines of classes, guides and errors, at the size of the page."""

from __future__ import annotations

import numpy as np

from guidino_cli.plots.outlines import draw_border, draw_outlines
from guidino_cli.plots.panels import Limits, apply_colormap, overlay_guide
from guidino_cli.plots.report import draw_overlay

_LINE = 2
"""Width of outlines in pixels."""


def grey_picture(values: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """A slice (h, w) of values in [0, 1] as (H, W, 3) uint8; values outside are black or white, NaN is black."""
    from PIL import Image

    grey = (np.nan_to_num(values.astype(np.float32)).clip(0, 1) * 255).round().astype(np.uint8)
    enlarged = size_hw[0] >= grey.shape[0] and size_hw[1] >= grey.shape[1]
    filtering = Image.Resampling.BICUBIC if enlarged else Image.Resampling.LANCZOS
    resized = np.asarray(Image.fromarray(np.ascontiguousarray(grey)).resize((size_hw[1], size_hw[0]), filtering))
    return np.repeat(resized[..., None], 3, axis=2)


def outlined_picture(values: np.ndarray, labels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """A slice with the outline of every class but 0 in its colour, along the edge of the picture too.

    Args:
        values: (h, w) in [0, 1].
        labels: (h, w) class indices.
        size_hw: Height and width of the picture.

    Returns:
        (H, W, 3) uint8.
    """
    return draw_outlines(grey_picture(values, size_hw), resize_labels(labels, size_hw), width=_LINE, framed=True)


def guide_picture(
    values: np.ndarray | None,
    guide: np.ndarray,
    size_hw: tuple[int, int],
    *,
    limits: Limits,
    target: np.ndarray | None = None,
) -> np.ndarray:
    """The colours of a guide over a slice in muted grey, with the outline of what it should mark in white.

    Args:
        values: (h, w) in [0, 1], or None for the colours alone.
        guide: In [0, 1], on any grid that covers the slice.
        size_hw: Height and width of the picture.
        limits: Values of the first and the last colour.
        target: (h, w) booleans, or None.

    Returns:
        (H, W, 3) uint8.
    """
    from PIL import Image

    enlarged = Image.fromarray(np.ascontiguousarray(guide, dtype=np.float32))
    smooth = np.asarray(enlarged.resize((size_hw[1], size_hw[0]), Image.Resampling.BILINEAR))
    if values is None:
        colours = apply_colormap(smooth, limits=limits)
    else:
        colours = overlay_guide(grey_picture(values, size_hw), smooth, limits=limits)
    picture = (colours.clip(0, 1) * 255).round().astype(np.uint8)
    if target is None:
        return picture
    return draw_border(picture, resize_labels(target, size_hw), (255, 255, 255), width=_LINE)


def errors_picture(
    values: np.ndarray | None, prediction: np.ndarray, truth: np.ndarray, size_hw: tuple[int, int]
) -> np.ndarray:
    """A slice with true positives, false positives, false negatives and wrong classes in colour.

    Args:
        values: (h, w) in [0, 1], or None for a dark background.
        prediction: (h, w) class indices.
        truth: (h, w) class indices.
        size_hw: Height and width of the picture.

    Returns:
        (H, W, 3) uint8.
    """
    image = None if values is None else grey_picture(values, size_hw)
    return draw_overlay(image, resize_labels(prediction, size_hw), resize_labels(truth, size_hw))


def resize_labels(labels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize (h, w) of any type: every pixel takes the voxel in which its centre lies."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(size_hw, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]


def mark_crossing(picture: np.ndarray, crossing: tuple[float, float]) -> np.ndarray:
    """Copy a picture (H, W, 3) uint8 with ticks at its edges in the row and column where other planes cut it.

    Args:
        picture: The picture.
        crossing: Fractions of its height and width; see `Plane.crossing`.
    """
    height, width = picture.shape[:2]
    row, column = min(int(crossing[0] * height), height - 1), min(int(crossing[1] * width), width - 1)
    result = picture.copy()
    for rim in (1, 0):
        # A dark rim of one pixel first, then the tick itself.
        colour = 0 if rim else 255
        across, down = (max(1, min(12, side // 8)) + rim for side in (width, height))
        band = slice(max(0, row - rim), row + rim + 1)
        result[band, :across] = result[band, -across:] = colour
        band = slice(max(0, column - rim), column + rim + 1)
        result[:down, band] = result[-down:, band] = colour
    return result
