"""Descriptors of images for drift: statistics of their tokens by `guidino-tiny`."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from guidino_cli.data.preprocess import resize_image, to_tensor
from guidino_cli.data.readers import read
from guidino_cli.device_transfer import to_device
from guidino_cli.errors import DataError
from guidino_cli.models import build_backbone
from guidino_cli.models.base import Backbone

BACKBONE = "guidino-tiny"
"""The same for every run, so that a run without a backbone has drift, too, and nothing is downloaded."""
LAYERS = (2, 6)
SIDE = 224


def load_instrument(device: torch.device) -> Backbone:
    """The frozen backbone that describes the images."""
    backbone: Backbone = build_backbone(BACKBONE, {"layers": list(LAYERS)}, offline=True, frozen=True)
    backbone.freeze()
    return backbone.to(device).eval()


@torch.inference_mode()
def describe_pixels(backbone: Backbone, pixels: np.ndarray) -> np.ndarray:
    """Descriptor (F,) float32 of an image (H, W, 3) uint8 of any size.

    Mean and standard deviation over the tokens of two blocks, of two views: the whole image stretched to `SIDE` px, and
    its middle as it is stored, in which blur and compression show that disappear when an image is made smaller.
    """
    views = [resize_image(pixels, (SIDE, SIDE)), _middle(pixels)]
    images = to_device(torch.stack([to_tensor(view) for view in views]), next(backbone.parameters()).device)
    parts: list[Tensor] = []
    for dense in backbone(images):
        tokens = dense.float().flatten(2)
        parts += [tokens.mean(dim=2), tokens.std(dim=2)]
    return torch.cat(parts, dim=1).flatten().cpu().numpy()


def _middle(pixels: np.ndarray) -> np.ndarray:
    """The middle `SIDE` x `SIDE` pixels; an image with a shorter side is enlarged first."""
    height, width = pixels.shape[:2]
    factor = max(1.0, SIDE / min(height, width))
    if factor > 1:
        size = (max(SIDE, round(width * factor)), max(SIDE, round(height * factor)))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
        height, width = pixels.shape[:2]
    top, left = (height - SIDE) // 2, (width - SIDE) // 2
    return pixels[top : top + SIDE, left : left + SIDE]


def describe_files(backbone: Backbone, paths: Iterable[Path]) -> Iterator[tuple[Path, np.ndarray | DataError]]:
    """Descriptors of image files; the error of one that cannot be read in its place."""
    for path in paths:
        try:
            pixels = read(path)[0]
        except DataError as error:
            yield path, error
            continue
        yield path, describe_pixels(backbone, pixels)
