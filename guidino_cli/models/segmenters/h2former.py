"""H2Former (He et al., IEEE TMI 2023): a ResNet whose every stage goes on as attention within windows."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.window_attention import PatchMerging, SwinBlock, channels_first, channels_last


class H2Former(Segmenter):
    """ResNet-34 stages, multi-scale channel attention and shifted windows in turn, under a U-Net's decoder.

    A stage's convolutions see the image finely, what the stage before saw of several scales is added, and two blocks
    of attention within windows mix both. Written from the paper's description, which leaves open the widths of the
    decoder and of the branches of the embedding: 33,564,076 parameters with one class (33,570,156 with four input
    channels), where the authors' code has 33.699 million with four. Scores of theirs need not be reached with it.

    Args:
        num_classes: K, background included.
        in_channels: C.
        width: Channels of the first stage; doubled at each of the next three.
        convs: Residual blocks of each stage; ResNet-34's.
        depths: Attention blocks of each stage; every other one is shifted.
        heads: Attention heads of each stage.
        window: Side of a window in cells; the authors take a sixteenth of the image's side in pixels.
    """

    stride = 16

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        convs: Sequence[int] = (3, 4, 6, 3),
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (2, 4, 8, 16),
        window: int = 16,
    ) -> None:
        super().__init__()
        if not len(convs) == len(depths) == len(heads) == 4:
            raise ValueError(f"convs {list(convs)}, depths {list(depths)}, heads {list(heads)}: expected four of each")
        widths = [width * 2**level for level in range(4)]
        self.stem = _conv_bn_relu(in_channels, width, kernel=7)
        self.embed = _MultiScaleEmbedding(in_channels, width)
        entries = [width, *widths[:-1]]
        self.convs = nn.ModuleList(
            _residual_stage(i, o, count, stride=1 if level == 0 else 2)
            for level, (i, o, count) in enumerate(zip(entries, widths, convs, strict=True))
        )
        self.mix = nn.ModuleList(_mixing(*stage, window=window) for stage in zip(widths, depths, heads, strict=True))
        self.merge = nn.ModuleList(PatchMerging(channels) for channels in widths[:-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for o, i in pairwise([width, *widths]))
        self.join = nn.ModuleList(_double_conv(2 * channels, channels) for channels in [width, *widths[:-1]])
        self.head = nn.Conv2d(width, num_classes, 1)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Five maps at 1, 1/2, 1/4, 1/8 and 1/16 of the image."""
        features = [self.stem(image)]
        x, scales = F.max_pool2d(features[0], 3, stride=2, padding=1), self.embed(image)
        for level, (conv, mix) in enumerate(zip(self.convs, self.mix, strict=True)):
            x = channels_first(mix(channels_last(conv(x) + scales)))
            features.append(x)
            if level < len(self.merge):
                scales = channels_first(self.merge[level](channels_last(x)))
        return features

    def decode(self, features: list[Tensor], size_hw: tuple[int, int]) -> list[Tensor]:
        """Class scores at image size; no deep supervision."""
        x = features[-1]
        for level in reversed(range(len(self.up))):
            x = self.join[level](torch.cat([features[level], self.up[level](x)], dim=1))
        return [self.head(x)]


class EfficientChannelAttention(nn.Module):
    """Efficient channel attention (Wang et al. 2020): each channel's mean and its neighbours' decide its factor."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # ECA's rule: wider for more channels, always odd.
        near = int(abs(math.log2(channels) + 1) / 2)
        kernel = near if near % 2 else near + 1
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, h, w, C) in and out."""
        factor = self.conv(x.mean(dim=(1, 2)).unsqueeze(1)).sigmoid()
        return x * factor.unsqueeze(1)


class _MultiScaleEmbedding(nn.Module):
    """Half the size: patches of 2, 4, 8 and 16 pixels around each cell, side by side, weighed channel by channel."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        shares = [channels // 2, channels // 4, channels // 8]
        shares.append(channels - sum(shares))
        self.scales = nn.ModuleList(
            nn.Conv2d(channels_in, share, 2 ** (i + 1), stride=2, padding=2**i - 1) for i, share in enumerate(shares)
        )
        self.norm = nn.LayerNorm(channels)
        self.attention = EfficientChannelAttention(channels)

    def forward(self, image: Tensor) -> Tensor:
        joined = torch.cat([scale(image) for scale in self.scales], dim=1)
        return channels_first(self.attention(self.norm(channels_last(joined))))


class _Residual(nn.Module):
    """ResNet's basic block."""

    def __init__(self, channels_in: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv_bn_relu(channels_in, channels, stride=stride),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            conv = nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def _residual_stage(channels_in: int, channels: int, count: int, *, stride: int) -> nn.Sequential:
    first = _Residual(channels_in, channels, stride=stride)
    return nn.Sequential(first, *(_Residual(channels, channels, stride=1) for _ in range(count - 1)))


def _mixing(channels: int, depth: int, heads: int, *, window: int) -> nn.Sequential:
    """Attention blocks whose MLP weighs its hidden channels."""
    return nn.Sequential(
        *(
            SwinBlock(channels, heads=heads, window=window, shift=(i % 2) * (window // 2), mlp=_mlp(channels))
            for i in range(depth)
        )
    )


def _mlp(channels: int) -> nn.Sequential:
    hidden = 4 * channels
    return nn.Sequential(
        nn.Linear(channels, hidden), nn.GELU(), EfficientChannelAttention(hidden), nn.Linear(hidden, channels)
    )


def _conv_bn_relu(channels_in: int, channels: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def _double_conv(channels_in: int, channels: int) -> nn.Sequential:
    return nn.Sequential(*_conv_bn_relu(channels_in, channels), *_conv_bn_relu(channels, channels))
