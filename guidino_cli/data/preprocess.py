"""Resize images and masks to the network's grid, and predictions back to the source's."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from guidino_cli.types import Geometry

Resize = Literal["stretch", "longer", "shorter", "none"]


def network_size(size_hw: tuple[int, int], *, resize: Resize, image_size: int) -> tuple[int, int]:
    """Height and width of an image in the network's grid; modes as in `DataSettings.resize`."""
    if resize == "stretch":
        return image_size, image_size
    if resize == "none":
        return size_hw
    if resize == "longer":
        factor = image_size / max(size_hw)
        return max(1, round(size_hw[0] * factor)), max(1, round(size_hw[1] * factor))
    factor = image_size / min(size_hw)
    return max(image_size, round(size_hw[0] * factor)), max(image_size, round(size_hw[1] * factor))


def resize_image(pixels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize (H, W, 3) uint8, with antialiasing where it shrinks."""
    if pixels.shape[:2] == size_hw:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size_hw[::-1], Image.Resampling.BILINEAR))


def resize_channels(values: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize (C, H, W) float32 of any range as `resize_image` does pictures: with antialiasing where it shrinks."""
    if values.shape[1:] == size_hw:
        return values
    images = (Image.fromarray(np.ascontiguousarray(channel)) for channel in values)
    return np.stack([np.asarray(image.resize(size_hw[::-1], Image.Resampling.BILINEAR)) for image in images])


def resize_labels(labels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resize (H, W) class indices: each pixel becomes the class that covers most of its area."""
    if labels.shape == size_hw:
        return labels
    classes = np.unique(labels)
    shares = [
        np.asarray(
            Image.fromarray((labels == value).astype(np.float32)).resize(size_hw[::-1], Image.Resampling.BILINEAR)
        )
        for value in classes
    ]
    return np.asarray(classes[np.argmax(shares, axis=0)].astype(labels.dtype))


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255


def restore_to_source(maps: Tensor, geometry: Geometry) -> Tensor:
    """Resize maps (K, h, w) bilinearly to the source's grid (K, H, W), with antialiasing where it shrinks."""
    size = geometry.size_hw
    if maps.shape[-2:] == size:
        return maps
    shrinks = size[0] < maps.shape[-2]
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False, antialias=shrinks)[0]


def pad_to_square(array: np.ndarray, side: int, *, axes: tuple[int, int] = (0, 1), value: int = 0) -> np.ndarray:
    """Fill an image at the bottom and right to at least (side, side), as prediction pads.

    Args:
        array: Any number of axes.
        side: In pixels; an axis that is as long or longer is left as it is.
        axes: Those of rows and columns.
        value: Of the new pixels.
    """
    widths = [(0, 0)] * array.ndim
    for axis in axes:
        widths[axis] = (0, max(0, side - array.shape[axis]))
    return np.pad(array, widths, constant_values=value) if any(after for _, after in widths) else array
