"""The light 3-D decoder of the DINOv3 medical benchmark, on a backbone's maps of slices (Liu et al. 2025)."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.layers import LEAKY_RELU_SLOPE, InstanceNorm3d


class Light3D(Segmenter):
    """Sees the volume only through a backbone: four 3-D convolutions, between which the grid doubles within the slices.

    The paper says "3D convolutions with skip connections" and gives no widths; these are ours. Every block adds a map
    of the backbone, the deepest first, to what it is given. 917,986 parameters in addition to a ViT-S with two classes
    and four maps, 1,102,306 to a ViT-B, 1,225,186 to a ViT-L; fewer with fewer maps.

    Args:
        num_classes: K, background included.
        dense_channels: D of the backbone's maps, shallow to deep; of one to as many as there are blocks.
        widths: Channels after each block.
    """

    dims = 3
    # Any size: the backbone fits its grid to the slices, and the logits are resized to the volume.
    stride = 1
    uses_backbone = True
    reads_image = False

    def __init__(
        self, *, num_classes: int, dense_channels: Sequence[int], widths: Sequence[int] = (128, 64, 32, 16)
    ) -> None:
        super().__init__()
        if not widths:
            raise ValueError("widths are empty, expected one for each block, such as [128, 64, 32, 16]")
        if len(dense_channels) > len(widths):
            raise ValueError(
                f"adds a map of the backbone to each of {len(widths)} blocks, found {len(dense_channels)} maps; "
                "set model.backbone.options.layers, such as [3,6,9,12]"
            )
        entries = [widths[0], *widths[:-1]]
        self.project = nn.Conv3d(dense_channels[-1], widths[0], 1)
        # From the deepest map on, the order in which they are added.
        self.taps = nn.ModuleList(
            nn.Conv3d(channels, width, 1) for channels, width in zip(reversed(dense_channels), entries, strict=False)
        )
        self.blocks = nn.ModuleList(_block(before, after) for before, after in pairwise([widths[0], *widths]))
        self.head = nn.Conv3d(widths[-1], num_classes, 1)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Maps that the blocks add, the last block's first, then the map (B, widths[0], Z, h, w) of the first."""
        added = [tap(level) for tap, level in zip(self.taps, reversed(dense), strict=True)]
        return [*reversed(added), self.project(dense[-1])]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at the volume's size; no deep supervision."""
        *added, x = features
        for number, block in enumerate(self.blocks):
            if number:
                x = F.interpolate(x, scale_factor=(1, 2, 2), mode="trilinear", align_corners=False)
            if added:
                x = x + _resized(added.pop(), x.shape[2:])
            x = block(x)
        return [_resized(self.head(x), size_hw)]


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    conv = nn.Conv3d(channels_in, channels_out, 3, padding=1, bias=False)
    return nn.Sequential(conv, InstanceNorm3d(channels_out), nn.LeakyReLU(LEAKY_RELU_SLOPE, inplace=True))


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    if x.shape[2:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="trilinear", align_corners=False)
