"""Prepare images for a pretrained network: sides that are multiples of the patch, and its own normalisation."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.errors import DataError


class InputNormalizer(nn.Module):
    """Resizes and normalises images (B, 1 or 3, H, W) in [0, 1] for a pretrained network.

    Args:
        stride: Both sides become multiples of it.
        scale: The image is first enlarged by this factor.
        mean: Per channel, subtracted.
        std: Per channel, divided by.

    Attributes:
        is_standardized: Images come as z-scores: they are resized, but neither clipped to [0, 1] nor normalised again.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, stride: int, scale: float, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"scale is {scale}, expected a positive factor")
        self.stride = stride
        self.scale = scale
        self.is_standardized = False
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Sides that are not multiples of the stride are resized up to the next one.

        transformers would silently cut off the rest of the image, and padding would shift the grid.

        Raises:
            DataError: Two, four or more channels: nothing tells which of them are red, green and blue.
        """
        if image.shape[1] not in {1, 3}:
            raise DataError(
                f"images have {image.shape[1]} channels, but a pretrained backbone takes 1 (grey) or 3 (colour); "
                "convert the images, or use a model without backbone"
            )
        if image.shape[1] == 1:
            image = image.expand(-1, 3, -1, -1)
        height, width = (math.ceil(side * self.scale / self.stride) * self.stride for side in image.shape[-2:])
        if image.shape[-2:] != (height, width):
            image = F.interpolate(image, size=(height, width), mode="bicubic", align_corners=False)
            image = image if self.is_standardized else image.clamp(0, 1)
        return image if self.is_standardized else (image - self.mean) / self.std
