"""Area, contact with the border and connected parts of each class of a mask, cheap enough to compute for every mask."""

from dataclasses import dataclass

import numpy as np

PARTS_SIDE = 512
"""Parts are counted in a mask thinned to at most this many rows and columns."""
_FEW = 8


@dataclass(frozen=True)
class RegionStatistics:
    """One class of a mask, the background included.

    Attributes:
        pixels: Pixels that it covers.
        area: Share of the image that it covers, in [0, 1].
        border: Share of the image's outermost pixels that it covers, in [0, 1].
        parts: Connected parts, corners connect; 0 if it is empty, and not counted for class 0.
    """

    pixels: int
    area: float
    border: float
    parts: int


def region_statistics(labels: np.ndarray, classes: int) -> tuple[RegionStatistics, ...]:
    """Statistics of each class of a mask (H, W) of class indices below `classes`."""
    from scipy import ndimage

    pixels = _count_pixels(labels, classes)
    edge = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    border = np.bincount(edge, minlength=classes)
    step = -(-max(labels.shape) // PARTS_SIDE)
    thin = labels[::step, ::step]
    # A class of a few pixels may be thinned away.
    parts = [0, *(int(count > 0) for count in pixels[1:])]
    for index, box in enumerate(ndimage.find_objects(thin, classes - 1), start=1):
        if box is not None:
            parts[index] = int(ndimage.label(thin[box] == index, np.ones((3, 3)))[1])
    return tuple(
        RegionStatistics(int(pixels[index]), pixels[index] / labels.size, border[index] / edge.size, parts[index])
        for index in range(classes)
    )


def _count_pixels(labels: np.ndarray, classes: int) -> np.ndarray:
    """Pixels (K,) of each class; for a few classes ten times as fast as a histogram, which needs 64-bit indices."""
    if classes > _FEW:
        return np.bincount(labels.ravel(), minlength=classes)
    counts = [int(np.count_nonzero(labels == index)) for index in range(1, classes)]
    return np.array([labels.size - sum(counts), *counts])
