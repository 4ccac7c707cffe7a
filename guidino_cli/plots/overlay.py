"""Outlines of classes drawn over an image, in its own pixels."""

import numpy as np
from scipy import ndimage

# Okabe and Ito's colours, which colour-blind readers tell apart; class 1 first.
COLOURS = [(86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)]


def outlined(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Draw the border of every class but 0.

    Args:
        pixels: (H, W, 3) uint8.
        labels: (H, W) class indices.

    Returns:
        (H, W, 3) uint8; the line's width grows with the image, so that it is seen in a thumbnail.
    """
    result = pixels.copy()
    width = max(1, round(min(labels.shape) / 200))
    for value in np.unique(labels[labels > 0]):
        inside = labels == value
        border = inside & ~ndimage.binary_erosion(inside, iterations=width)
        result[border] = COLOURS[(int(value) - 1) % len(COLOURS)]
    return result
