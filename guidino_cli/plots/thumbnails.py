"""Pixels no more than a panel can show: matplotlib is slow with millions of them."""

from typing import Literal

import numpy as np

_LONGEST_SIDE = 1200


def thumbnail(image: np.ndarray, *, longest: int = _LONGEST_SIDE) -> np.ndarray:
    """An image (H, W, 3) uint8 whose sides are at most `longest`."""
    return _reduced(image, longest, "LANCZOS")


def thumbnail_labels(labels: np.ndarray, *, longest: int = _LONGEST_SIDE) -> np.ndarray:
    """Class indices (H, W) as uint8, no class blended with another."""
    return _reduced(labels.astype(np.uint8), longest, "NEAREST")


def thumbnail_map(values: np.ndarray, *, longest: int = _LONGEST_SIDE) -> np.ndarray:
    """A map (H, W) as float32."""
    return _reduced(values.astype(np.float32), longest, "BILINEAR")


def _reduced(pixels: np.ndarray, longest: int, how: Literal["LANCZOS", "NEAREST", "BILINEAR"]) -> np.ndarray:
    from PIL import Image

    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling[how]))
