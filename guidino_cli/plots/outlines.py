"""Outlines of classes drawn into an image's own pixels, in colours that colour-blind readers tell apart."""

import numpy as np

# Okabe and Ito's colours for colour-blind readers, brightest first: they must stand out from tissue.
OUTLINES = ("#56b4e9", "#f0e442", "#e69f00", "#009e73", "#cc79a7", "#0072b2", "#d55e00")


def outline_colour(index: int) -> str:
    """Colour of a class's outline as `#rrggbb`; index 1 is the first foreground class."""
    return OUTLINES[(index - 1) % len(OUTLINES)]


def draw_outlines(
    image: np.ndarray, labels: np.ndarray, *, width: int | None = None, framed: bool = False
) -> np.ndarray:
    """A copy of an image with every class but 0 outlined from inside, on a darkened rim.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W) class indices.
        width: Pixels; by default it grows with the image, so that the line is seen in a thumbnail.
        framed: Draw along the picture's edge, too: a mask that fills the picture then does not look like none.

    Returns:
        (H, W, 3) uint8.
    """
    width = width or max(1, round(min(labels.shape) / 200))
    result = image.copy()
    rim = _border(labels == 0, width=max(1, width // 2))
    result[rim] = result[rim] // 3
    for index in np.unique(labels[labels > 0]):
        colour = [int(outline_colour(int(index))[start : start + 2], 16) for start in (1, 3, 5)]
        result[_border(labels == index, width=width, framed=framed)] = colour
    return result


def _border(region: np.ndarray, *, width: int, framed: bool = False) -> np.ndarray:
    """Pixels of a region within `width` pixels of its edge; `framed` counts the edge of the picture as one."""
    inside = region.copy()
    for _ in range(width):
        padded = np.pad(inside, 1) if framed else np.pad(inside, 1, mode="edge")
        inside = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region & ~inside
