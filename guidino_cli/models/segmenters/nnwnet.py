"""nnWNet (Zhou et al., CVPR 2025) in 2-D and 3-D: two U passes, global bridges between them, five heads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter


class NNWNet(Segmenter):
    """A W-shaped network: `encode` is its first descent, `decode` everything after it.

    7,043,541 parameters with 3 input channels, one class and the default width. The "global" blocks mix by pooling
    (PoolFormer), as in the published two-dimensional copies; there is no attention.

    Args:
        num_classes: K, background included.
        in_channels: C.
        width: Channels of the finest local path; the global path has half, each level doubles both.
    """

    stride = 16
    output_layers = ("heads",)

    def __init__(self, *, num_classes: int, in_channels: int = 3, width: int = 16) -> None:
        super().__init__()
        self._build(num_classes, in_channels, widths=[width * 2**level for level in range(5)], blocks=_IN_PLANE)

    def _build(self, num_classes: int, in_channels: int, *, widths: Sequence[int], blocks: "_Blocks") -> None:
        c = list(widths)
        g = [width // 2 for width in widths]
        self.stem = nn.Sequential(*blocks.conv_bn_gelu(in_channels, c[0]), *blocks.conv_bn_gelu(c[0], c[0]))
        self.embed = nn.ModuleList(blocks.embed(c[i], c[i + 1]) for i in range(4))
        # First ascent: a[i] bridges the first descent, b[i] the ascent.
        self.bridge_a = nn.ModuleList(blocks.bridge(c[i], g[i]) for i in range(4))
        self.rise = nn.ModuleList(blocks.rise(_joined(c, g, i + 1, top=4), c[i + 1], c[i]) for i in range(4))
        self.bridge_b = nn.ModuleList(blocks.bridge(_joined(c, g, i + 1, top=4), g[i + 1]) for i in range(4))
        # Second descent.
        self.sink = nn.ModuleList(blocks.sink(c[i] + g[i], c[i], c[i + 1]) for i in range(4))
        self.bridge_q = nn.ModuleList(blocks.bridge(c[i] + g[i], g[i]) for i in range(4))
        # Second ascent.
        self.lift = nn.ModuleList(blocks.rise(c[i + 1] + g[i + 1], c[i + 1], c[i]) for i in range(4))
        self.last = blocks.residual(c[0] + g[0], c[0])
        self.heads = nn.ModuleList(blocks.conv(channels, num_classes, 1) for channels in c)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Five maps at 1, 1/2, 1/4, 1/8 and 1/16 of the image."""
        features = [self.stem(image)]
        for embed in self.embed:
            features.append(embed(features[-1]))
        return features

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at 1, 1/2, 1/4, 1/8 and 1/16 of the image."""
        first, bridges_b = self._ascend(features)
        bottom, bridges_q = self._descend(first, bridges_b)
        logits = [self.heads[4](bottom)]
        x = torch.cat([bottom, bridges_b[3]], dim=1)
        for i in reversed(range(4)):
            x = torch.cat([self.lift[i](x), bridges_q[i]], dim=1)
            local = self.last(x) if i == 0 else x[:, : self.heads[i].in_channels]
            logits.insert(0, self.heads[i](local))
        return logits

    def _ascend(self, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The first U's way up: the finest joined map, and bridges at levels 1 to 4."""
        bridges: list[Tensor] = []
        x = features[4]
        for i in reversed(range(4)):
            bridges.insert(0, self.bridge_b[i](x))
            x = torch.cat([self.rise[i](x), self.bridge_a[i](features[i])], dim=1)
        return x, bridges

    def _descend(self, x: Tensor, bridges_b: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The second U's way down: the deepest local map, and bridges at levels 0 to 3."""
        bridges: list[Tensor] = []
        for i in range(4):
            bridges.append(self.bridge_q[i](x))
            local = self.sink[i](x)
            x = torch.cat([local, bridges_b[i]], dim=1)
        return local, bridges


class NNWNet3d(NNWNet):
    """nnWNet for volumes, as its authors publish it: the same network, its widths capped like nnU-Net's.

    53,233,802 parameters with one input channel and two classes. Sides are halved four times along every axis, so
    volumes should have voxels that are about as long as wide.

    Args:
        num_classes: K, background included.
        in_channels: C.
        widths: Channels of the local path at each of the five levels; the global path has half.
    """

    dims = 3

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, widths: Sequence[int] = (32, 64, 128, 256, 320)
    ) -> None:
        nn.Module.__init__(self)
        if len(widths) != 5 or any(width % 2 for width in widths):
            raise ValueError(f"widths are {list(widths)}, expected five even numbers")
        self._build(num_classes, in_channels, widths=widths, blocks=_IN_SPACE)


def _joined(c: list[int], g: list[int], level: int, *, top: int) -> int:
    """Channels entering a level of the first ascent: the deepest one has no bridge joined to it yet."""
    return c[level] if level == top else c[level] + g[level]


@dataclass(frozen=True)
class _Blocks:
    """The blocks of the network, with two or three axes of space."""

    conv: Any
    norm: Any
    average: Callable[[], nn.Module]
    interpolation: str

    def conv_bn_gelu(self, channels_in: int, channels_out: int) -> list[nn.Module]:
        return [self.conv(channels_in, channels_out, 3, padding=1), self.norm(channels_out), nn.GELU()]

    def down(self, channels_in: int, channels_out: int) -> nn.Sequential:
        conv = self.conv(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        return nn.Sequential(conv, self.norm(channels_out), nn.GELU())

    def up(self, channels_in: int, channels_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Upsample(scale_factor=2, mode=self.interpolation, align_corners=True),
            self.conv(channels_in, channels_out, 3, padding=1, bias=False),
            self.norm(channels_out),
            nn.GELU(),
        )

    def embed(self, channels_in: int, channels_out: int) -> nn.Sequential:
        """Overlapping patch embedding: a convolution, then half the size."""
        return nn.Sequential(*self.conv_bn_gelu(channels_in, channels_in), self.down(channels_in, channels_out))

    def residual(self, channels_in: int, channels_out: int) -> "_Residual":
        return _Residual(channels_in, channels_out, self)

    def rise(self, channels_in: int, hidden: int, channels_out: int) -> nn.Sequential:
        """A residual block, then one level up."""
        return nn.Sequential(self.residual(channels_in, hidden), self.up(hidden, channels_out))

    def sink(self, channels_in: int, hidden: int, channels_out: int) -> nn.Sequential:
        """A residual block, then one level down."""
        return nn.Sequential(self.residual(channels_in, hidden), self.down(hidden, channels_out))

    def bridge(self, channels_in: int, channels: int) -> "_GlobalBridge":
        return _GlobalBridge(channels_in, channels, self)


class _Average3d(nn.AvgPool3d):
    """Mean over 3 x 3 x 3 cells, of those that exist; torch refuses maps that are thinner than that."""

    def __init__(self) -> None:
        super().__init__(3, stride=1, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[2:]) >= 3:
            return super().forward(x)
        around, exists = (F.avg_pool3d(F.pad(item, [1] * 6), 3, stride=1) for item in (x, torch.ones_like(x[:1, :1])))
        return around / exists


_IN_PLANE = _Blocks(
    nn.Conv2d, nn.BatchNorm2d, partial(nn.AvgPool2d, 3, stride=1, padding=1, count_include_pad=False), "bilinear"
)
_IN_SPACE = _Blocks(nn.Conv3d, nn.BatchNorm3d, _Average3d, "trilinear")


class _Residual(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, blocks: _Blocks) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *blocks.conv_bn_gelu(channels_in, channels_out),
            blocks.conv(channels_out, channels_out, 3, padding=1),
            blocks.norm(channels_out),
        )
        self.activate = nn.GELU()
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.shortcut = nn.Sequential(blocks.conv(channels_in, channels_out, 1), blocks.norm(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.body(x) + self.shortcut(x))


class _GlobalBridge(nn.Module):
    """Global scope bridge: a convolution, then token mixing by average pooling and a channel MLP, both residual."""

    def __init__(self, channels_in: int, channels: int, blocks: _Blocks) -> None:
        super().__init__()
        self.project = blocks.conv(channels_in, channels, 3, padding=1)
        self.norm_mix = nn.GroupNorm(1, channels)
        self.pool = blocks.average()
        self.norm_mlp = nn.GroupNorm(1, channels)
        self.mlp = nn.Sequential(
            blocks.conv(channels, 4 * channels, 1), nn.GELU(), blocks.conv(4 * channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        normed = self.norm_mix(x)
        x = x + self.pool(normed) - normed
        return x + self.mlp(self.norm_mlp(x))
