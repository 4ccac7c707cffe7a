"""U-KAN (Li et al., AAAI 2025): a U-Net whose coarse levels are tokens that Kolmogorov-Arnold layers mix."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.layers import DropPath, LayerNorm2d

_LEVELS = 5


class UKAN(Segmenter):
    """Three convolutional levels, then two of tokens; the way up adds the skips and mixes tokens at 1/16 and 1/8.

    6,356,689 parameters with one class and the default widths, 25,359,265 with (256, 320, 512). The paper trains the
    KAN layers with a learning rate of 1e-2 and everything else with 1e-4.

    Args:
        num_classes: K, background included.
        in_channels: C.
        widths: Channels at 1/8, 1/16 and 1/32; at the finer levels an eighth and a quarter of the first.
        depth: KAN blocks of each level of tokens.
        grid: Intervals of the splines on [-1, 1].
        drop_path: Share of samples that skip a KAN block in training.
    """

    stride = 32

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        widths: Sequence[int] = (128, 160, 256),
        depth: int = 1,
        grid: int = 5,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if len(widths) != 3:
            raise ValueError(f"widths are {list(widths)}, expected three, of 1/8, 1/16 and 1/32 of the image")
        all_widths = [widths[0] // 8, widths[0] // 4, *widths]
        convs, tokens = all_widths[:3], all_widths[3:]

        def mix(channels: int) -> nn.Sequential:
            blocks = (_KANBlock(channels, grid=grid, drop_path=drop_path) for _ in range(depth))
            return nn.Sequential(*blocks, LayerNorm2d(channels))

        self.convs = nn.ModuleList(_double_conv(i, o, o) for i, o in pairwise([in_channels, *convs]))
        self.embeds = nn.ModuleList(_PatchEmbedding(i, o) for i, o in pairwise(all_widths[2:]))
        self.mix_down = nn.ModuleList(mix(channels) for channels in tokens)
        # From the finest map up: to 1/2, 1/4, 1/8 and 1/16 of the image.
        self.rise = nn.ModuleList(_double_conv(i, i, o) for o, i in pairwise(all_widths))
        self.mix_up = nn.ModuleList([nn.Identity(), nn.Identity(), *(mix(channels) for channels in all_widths[2:4])])
        self.last = _double_conv(all_widths[0], all_widths[0], all_widths[0])
        self.head = nn.Conv2d(all_widths[0], num_classes, 1)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Five maps at 1/2, 1/4, 1/8, 1/16 and 1/32 of the image."""
        features, x = [], image
        for conv in self.convs:
            x = F.max_pool2d(conv(x), 2)
            features.append(x)
        for embed, mix in zip(self.embeds, self.mix_down, strict=True):
            x = mix(embed(x))
            features.append(x)
        return features

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size; no deep supervision."""
        x = features[-1]
        for level in reversed(range(_LEVELS - 1)):
            x = self.mix_up[level](_doubled(self.rise[level](x)) + features[level])
        return [self.head(_doubled(self.last(x)))]


class _KANBlock(nn.Module):
    """Three times a KAN layer on every cell, then a depthwise convolution among neighbours; added to what came in."""

    def __init__(self, channels: int, *, grid: int, drop_path: float) -> None:
        super().__init__()
        self.norm = LayerNorm2d(channels)
        self.layers = nn.Sequential(*(_KANConv(channels, grid=grid) for _ in range(3)))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, h, w) in and out."""
        return x + self.drop_path(self.layers(self.norm(x)))


class KANLinear(nn.Module):
    """A layer whose every weight is a function of its input: a SiLU, and a spline that has a scale of its own.

    output_o = sum_i base_oi silu(x_i) + scale_oi sum_k spline_oik B_k(x_i), with cubic B-splines on a uniform grid;
    10 parameters for each pair of channels with the grid of 5 intervals, and no bias.

    Args:
        channels_in: I.
        channels_out: O.
        grid: Intervals on [-1, 1]; the splines reach three intervals beyond and are zero outside.
    """

    centres: Tensor

    def __init__(self, channels_in: int, channels_out: int, *, grid: int = 5) -> None:
        super().__init__()
        if grid < 1:
            raise ValueError(f"grid is {grid}, expected 1 or more intervals")
        self.step = 2 / grid
        # Splines 0 to grid + 2; the first two and the last are centred outside [-1, 1], or on its border.
        centres = -1 + self.step * (torch.arange(grid + 3) - 1)
        self.register_buffer("centres", centres, persistent=False)
        self.base = nn.Parameter(torch.empty(channels_out, channels_in))
        self.spline = nn.Parameter(torch.empty(channels_out, channels_in, grid + 3))
        self.scale = nn.Parameter(torch.empty(channels_out, channels_in))
        # As in Liu et al. 2024, splines start as small noise added to the base function.
        for weight in (self.base, self.scale):
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        nn.init.normal_(self.spline, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        splines = (self.spline * self.scale.unsqueeze(-1)).flatten(1)
        return F.linear(F.silu(x), self.base) + F.linear(self.basis(x).flatten(-2), splines)

    def basis(self, x: Tensor) -> Tensor:
        """The B-splines at x: (...) to (..., grid + 3); at most four are not zero, and within [-1, 1] they sum to 1."""
        # A uniform grid makes all of them copies of one: 2/3 at its centre, 1/6 one step away, zero from two steps on.
        distance = (x.unsqueeze(-1) - self.centres).abs() / self.step
        return ((2 - distance).clamp(min=0) ** 3 - 4 * (1 - distance).clamp(min=0) ** 3) / 6


class _KANConv(nn.Module):
    def __init__(self, channels: int, *, grid: int) -> None:
        super().__init__()
        self.kan = KANLinear(channels, channels, grid=grid)
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.kan(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class _PatchEmbedding(nn.Sequential):
    """Overlapping patches: half the size, new width, normed."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        conv = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1)
        super().__init__(conv, LayerNorm2d(channels_out))


def _double_conv(channels_in: int, hidden: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, hidden, 3, padding=1),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, channels_out, 3, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
