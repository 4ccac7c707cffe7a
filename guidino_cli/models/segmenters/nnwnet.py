"""nnWNet in two dimensions (Zhou et al., CVPR 2025): two U passes, global bridges between them, five heads."""

import torch
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

    def __init__(self, *, num_classes: int, in_channels: int = 3, width: int = 16) -> None:
        super().__init__()
        c = [width * 2**level for level in range(5)]
        g = [width * 2**level // 2 for level in range(5)]
        self.stem = nn.Sequential(*_conv_bn_gelu(in_channels, c[0]), *_conv_bn_gelu(c[0], c[0]))
        self.embed = nn.ModuleList(_Embed(c[i], c[i + 1]) for i in range(4))
        # First ascent: a[i] bridges the first descent, b[i] the ascent.
        self.bridge_a = nn.ModuleList(_GlobalBridge(c[i], g[i]) for i in range(4))
        self.rise = nn.ModuleList(_Local(_joined(c, g, i + 1, top=4), c[i + 1], c[i], _Up) for i in range(4))
        self.bridge_b = nn.ModuleList(_GlobalBridge(_joined(c, g, i + 1, top=4), g[i + 1]) for i in range(4))
        # Second descent.
        self.sink = nn.ModuleList(_Local(c[i] + g[i], c[i], c[i + 1], _Down) for i in range(4))
        self.bridge_q = nn.ModuleList(_GlobalBridge(c[i] + g[i], g[i]) for i in range(4))
        # Second ascent.
        self.lift = nn.ModuleList(_Local(c[i + 1] + g[i + 1], c[i + 1], c[i], _Up) for i in range(4))
        self.last = _Residual(c[0] + g[0], c[0])
        self.heads = nn.ModuleList(nn.Conv2d(channels, num_classes, 1) for channels in c)

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


def _joined(c: list[int], g: list[int], level: int, *, top: int) -> int:
    """Channels entering a level of the first ascent: the deepest one has no bridge joined to it yet."""
    return c[level] if level == top else c[level] + g[level]


def _conv_bn_gelu(channels_in: int, channels_out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.GELU()]


class _Down(nn.Sequential):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        conv = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        super().__init__(conv, nn.BatchNorm2d(channels_out), nn.GELU())


class _Up(nn.Sequential):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.GELU(),
        )


class _Embed(nn.Sequential):
    """Overlapping patch embedding: a convolution, then half the size."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(*_conv_bn_gelu(channels_in, channels_in), _Down(channels_in, channels_out))


class _Residual(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv_bn_gelu(channels_in, channels_out),
            nn.Conv2d(channels_out, channels_out, 3, padding=1),
            nn.BatchNorm2d(channels_out),
        )
        self.activate = nn.GELU()
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.body(x) + self.shortcut(x))


class _Local(nn.Sequential):
    """A residual block, then one level up or down."""

    def __init__(self, channels_in: int, hidden: int, channels_out: int, move: type[_Up] | type[_Down]) -> None:
        super().__init__(_Residual(channels_in, hidden), move(hidden, channels_out))


class _GlobalBridge(nn.Module):
    """Global scope bridge: a convolution, then token mixing by average pooling and a channel MLP, both residual."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.norm_mix = nn.GroupNorm(1, channels)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self.norm_mlp = nn.GroupNorm(1, channels)
        self.mlp = nn.Sequential(nn.Conv2d(channels, 4 * channels, 1), nn.GELU(), nn.Conv2d(4 * channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        normed = self.norm_mix(x)
        x = x + self.pool(normed) - normed
        return x + self.mlp(self.norm_mlp(x))
