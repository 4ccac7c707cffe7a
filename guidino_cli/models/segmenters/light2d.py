"""The light decoder of the DINOv3 medical benchmark: how far a frozen backbone's deepest map goes (Liu et al. 2025)."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter


class Light2D(Segmenter):
    """Sees the image only through a backbone: a projection, then shallow convolutions between doublings of the grid.

    The paper says "shallow convolutional blocks with dynamic bilinear upsampling" and no widths; these are ours.
    With two classes 1,076,482 parameters in addition to a ViT-S, 1,174,786 to a ViT-B, 1,240,322 to a ViT-L.

    Args:
        num_classes: K, background included.
        dense_channels: D of the backbone's maps; only the deepest is read.
        widths: Channels after each convolution; between two of them the grid doubles.
    """

    # Any size: the backbone fits its grid to the image, and the logits are resized to it.
    stride = 1
    uses_backbone = True
    reads_image = False

    def __init__(
        self, *, num_classes: int, dense_channels: Sequence[int], widths: Sequence[int] = (256, 128, 64, 32)
    ) -> None:
        super().__init__()
        if not widths:
            raise ValueError("widths are empty, expected one for each block, such as [256, 128, 64, 32]")
        self.project = nn.Conv2d(dense_channels[-1], widths[0], 1)
        self.blocks = nn.ModuleList(_block(before, after) for before, after in pairwise([widths[0], *widths]))
        self.head = nn.Conv2d(widths[-1], num_classes, 1)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """One map (B, widths[0], h, w), which a guide gates; `image` is not read."""
        return [self.project(dense[-1])]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size; no deep supervision."""
        first, *others = self.blocks
        x = first(features[-1])
        for block in others:
            x = block(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        return [F.interpolate(self.head(x), size=size_hw, mode="bilinear", align_corners=False)]


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))
