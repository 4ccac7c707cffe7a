"""The U-Net that GuiDINO guides at its bottleneck (Ronneberger et al. 2015, with batch normalisation)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter


class UNet(Segmenter):
    """Four times down, four times up, two convolutions per level.

    7,763,041 parameters with 3 input channels, one class and width 32, as in the paper's code.

    Args:
        num_classes: K, background included.
        in_channels: C.
        width: Channels of the finest level; doubled at each of four levels.
    """

    stride = 16

    def __init__(self, *, num_classes: int, in_channels: int = 3, width: int = 32) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.stem = _double_conv(in_channels, widths[0])
        self.down = nn.ModuleList(_double_conv(i, o) for i, o in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for o, i in pairwise(widths))
        self.merge = nn.ModuleList(_double_conv(2 * w, w) for w in widths[:-1])
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Five maps at 1, 1/2, 1/4, 1/8 and 1/16 of the image."""
        features = [self.stem(image)]
        for stage in self.down:
            features.append(stage(F.max_pool2d(features[-1], 2)))
        return features

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size; no deep supervision."""
        x = features[-1]
        for level in reversed(range(4)):
            x = self.merge[level](torch.cat([features[level], self.up[level](x)], dim=1))
        return [self.head(x)]


def _double_conv(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )
