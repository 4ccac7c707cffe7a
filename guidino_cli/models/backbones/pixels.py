"""How an image reaches a pretrained network: three channels, sides that fit its grid, normalised as its authors did."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.errors import DataError


class Eye(nn.Module):
    """Brings (B, 1 or 3, H, W) in [0, 1] to what a network takes.

    Args:
        stride: Both sides become multiples of it.
        scale: The image is enlarged by this factor first.
        mean: Per channel, subtracted.
        std: Per channel, divided by.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, stride: int, scale: float, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"scale is {scale}, expected a positive factor")
        self.stride = stride
        self.scale = scale
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Sides that are no multiple of the stride are resized up to the next one.

        transformers would cut the rest of the image off in silence, and padding would shift the grid.

        Raises:
            DataError: Two, four or more channels: which of them are red, green and blue nobody can know.
        """
        if image.shape[1] not in {1, 3}:
            raise DataError(
                f"images of {image.shape[1]} channels, but a pretrained backbone sees 1 (grey) or 3 (colour); "
                "give those three alone, or use a model without backbone"
            )
        if image.shape[1] == 1:
            image = image.expand(-1, 3, -1, -1)
        height, width = (math.ceil(side * self.scale / self.stride) * self.stride for side in image.shape[-2:])
        if image.shape[-2:] != (height, width):
            image = F.interpolate(image, size=(height, width), mode="bicubic", align_corners=False).clamp(0, 1)
        return (image - self.mean) / self.std
