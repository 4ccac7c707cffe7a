"""H2Former (He et al., IEEE TMI 2023): a ResNet whose every stage goes on as attention within windows."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.window_attention import SwinBlock, channels_first, channels_last


class H2Former(Segmenter):
    """ResNet-34 stages, multi-scale channel attention and shifted windows in turn, under a light decoder.

    A stage's convolutions see the image finely, what the stage before saw of two scales is added, and two blocks of
    attention within windows mix both. Three convolutions join the stages on the way up; the scores of the first stage,
    at half the image's size, are then enlarged with aligned corners. 33,692,576 parameters with one class; the authors'
    code takes four input channels, which makes 33,698,656.

    In that code the channel attention of the MLPs reads its tokens in the wrong order of axes, so that channels are
    mixed with cells; here they are not. Scores of theirs need not be reached with it.

    Args:
        num_classes: K, background included.
        in_channels: C.
        width: Channels of the first stage, a multiple of 8; doubled at each of the next three.
        convs: Residual blocks of each stage; ResNet-34's.
        depths: Attention blocks of each stage; every other one is shifted.
        heads: Attention heads of each stage.
        window: Side of a window in cells; the authors take a sixteenth of the image's side in pixels.
        drop_path: Share of samples that skip the last attention block in training; less for the blocks before it.
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
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if not len(convs) == len(depths) == len(heads) == 4:
            raise ValueError(f"convs {list(convs)}, depths {list(depths)}, heads {list(heads)}: expected four of each")
        if width % 8:
            raise ValueError(f"width is {width}, expected a multiple of 8, which the scales of the embedding share")
        widths = [width * 2**level for level in range(4)]
        self.stem = _conv_bn_relu(in_channels, width, kernel=7)
        self.embed = _MultiScaleEmbedding(in_channels, width)
        entries = [width, *widths[:-1]]
        self.convs = nn.ModuleList(
            _residual_stage(i, o, count, stride=1 if level == 0 else 2)
            for level, (i, o, count) in enumerate(zip(entries, widths, convs, strict=True))
        )
        drops = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        self.mix = nn.ModuleList(
            _mixing(channels, count, [next(drops) for _ in range(depth)], window=window)
            for channels, depth, count in zip(widths, depths, heads, strict=True)
        )
        self.merge = nn.ModuleList(_MultiScaleMerging(channels) for channels in widths[:-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for o, i in pairwise(widths))
        # With a bias before the norm, as in the authors' code.
        self.join = nn.ModuleList(_conv_bn_relu(2 * channels, channels, bias=True) for channels in widths[:-1])
        self.head = nn.Conv2d(width, num_classes, 1, bias=False)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Four maps at 1/2, 1/4, 1/8 and 1/16 of the image."""
        features = list[Tensor]()
        x, scales = F.max_pool2d(self.stem(image), 3, stride=2, padding=1), self.embed(image)
        for level, (conv, mix) in enumerate(zip(self.convs, self.mix, strict=True)):
            x = channels_first(mix(channels_last(conv(x) + scales)))
            features.append(x)
            if level < len(self.merge):
                scales = self.merge[level](x)
        return features

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size; no deep supervision."""
        x = features[-1]
        for level in reversed(range(len(self.up))):
            x = self.join[level](torch.cat([self.up[level](x), features[level]], dim=1))
        # A convolution of single cells without bias: before or after the enlargement is the same.
        return [F.interpolate(self.head(x), size=size_hw, mode="bilinear", align_corners=True)]


class EfficientChannelAttention(nn.Module):
    """Efficient channel attention (Wang et al. 2020): each channel's mean and its neighbours' decide its factor.

    As in the authors' code the weighed map is added to the map itself, and three channels are neighbours whatever their
    number; the paper of the layer has neither.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, h, w, C) in and out."""
        factor = self.conv(x.mean(dim=(1, 2)).unsqueeze(1)).sigmoid()
        return x + x * factor.unsqueeze(1)


class _MultiScaleEmbedding(nn.Module):
    """Half the size: patches of 2, 4, 8 and 16 pixels around each cell, side by side, weighed channel by channel."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.scales = _patches(channels_in, [channels // 2, channels // 4, channels // 8, channels // 8])
        self.attention = EfficientChannelAttention()
        self.norm = nn.LayerNorm(channels)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W) to (B, channels, H / 2, W / 2)."""
        joined = torch.cat([scale(image) for scale in self.scales], dim=1)
        return channels_first(self.norm(self.attention(channels_last(joined))))


class _MultiScaleMerging(nn.Module):
    """Half the size, twice the channels: a normed map in patches of 2 and 4 cells, weighed channel by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.scales = _patches(channels, [channels, channels])
        self.attention = EfficientChannelAttention()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, 2 C, h / 2, w / 2)."""
        normed = channels_first(self.norm(channels_last(x)))
        joined = torch.cat([scale(normed) for scale in self.scales], dim=1)
        return channels_first(self.attention(channels_last(joined)))


def _patches(channels_in: int, shares: Sequence[int]) -> nn.ModuleList:
    """Convolutions of 2, 4, 8, ... cells with stride 2 and so many channels, each centred on the cell it gives."""
    return nn.ModuleList(
        nn.Conv2d(channels_in, share, 2 ** (i + 1), stride=2, padding=2**i - 1) for i, share in enumerate(shares)
    )


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


def _mixing(channels: int, heads: int, drops: Sequence[float], *, window: int) -> nn.Sequential:
    """Attention blocks, one for each rate of stochastic depth, whose MLPs end in channel attention."""
    return nn.Sequential(
        *(
            SwinBlock(
                channels,
                heads=heads,
                window=window,
                shift=(i % 2) * (window // 2),
                mlp=_mlp(channels),
                drop_path=drop,
            )
            for i, drop in enumerate(drops)
        )
    )


def _mlp(channels: int) -> nn.Sequential:
    hidden = 4 * channels
    return nn.Sequential(
        nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels), EfficientChannelAttention()
    )


def _conv_bn_relu(
    channels_in: int, channels: int, *, kernel: int = 3, stride: int = 1, bias: bool = False
) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, kernel, stride=stride, padding=kernel // 2, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
