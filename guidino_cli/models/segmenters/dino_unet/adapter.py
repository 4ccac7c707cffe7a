"""The adapter of Dino U-Net: a convolutional pyramid of the image that asks the maps of a frozen ViT (its eq. 2, 3)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.layers import DropPath
from guidino_cli.models.segmenters.dino_unet.deformable import DeformableAttention, cell_centres

TAPS = 4
# The last map is asked by two more extractors.
_EXTRACTORS = (1, 1, 1, 3)
_FEED_FORWARD = 0.25

Size = tuple[int, int]


class Adapter(nn.Module):
    """Maps of the image at 1/4, 1/8, 1/16 and 1/32, enriched by four maps of a ViT, which stays untouched.

    Args:
        in_channels: C of the image.
        channels: D of the ViT's maps, and of the results.
        drop_path: Probability that a sample skips a feed-forward branch in training.
    """

    def __init__(self, *, in_channels: int, channels: int, drop_path: float) -> None:
        super().__init__()
        self.prior = SpatialPrior(in_channels, channels)
        self.scale_codes = nn.Parameter(torch.empty(3, channels))
        self.interactions = nn.ModuleList(
            nn.ModuleList(Extractor(channels, drop_path=drop_path) for _ in range(count)) for count in _EXTRACTORS
        )
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        # The authors' SyncBatchNorm, whose training fails on a CPU.
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(TAPS))
        self.apply(_initialise)
        nn.init.normal_(self.scale_codes)

    def forward(self, image: Tensor, dense: Sequence[Tensor]) -> list[Tensor]:
        """Four maps (B, D, ...), finest first.

        Args:
            image: (B, C, H, W), sides multiples of 32.
            dense: Four maps (B, D, h, w) on grids that cover the image, shallow to deep.
        """
        finest, *coarser = self.prior(image)
        sizes = [_size(item) for item in coarser]
        places = cell_centres(sizes, image.device)
        tokens = torch.cat([_tokens(item) + code for item, code in zip(coarser, self.scale_codes, strict=True)], dim=1)
        for extractors, tap in zip(self.interactions, dense, strict=True):
            for extractor in extractors:  # type: ignore[attr-defined]
                tokens = extractor(tokens, places, sizes, tap)
        coarser = _maps(tokens, sizes)
        maps = [finest + self.up(coarser[0]), *coarser]
        return [
            norm(item + F.interpolate(tap, size=_size(item), mode="bilinear", align_corners=False))
            for norm, item, tap in zip(self.norms, maps, dense, strict=True)
        ]


class SpatialPrior(nn.Module):
    """The convolutional branch: maps of D channels at 1/4, 1/8, 1/16 and 1/32 of the image.

    Args:
        in_channels: C.
        channels: D.
        width: Channels of the stem.
    """

    def __init__(self, in_channels: int, channels: int, width: int = 64) -> None:
        super().__init__()
        stem = [_conv(in_channels, width, stride=2), _conv(width, width), _conv(width, width)]
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.stages = nn.ModuleList(
            [
                nn.Sequential(*stem, nn.MaxPool2d(3, stride=2, padding=1)),
                *(_conv(before, after, stride=2) for before, after in pairwise(widths)),
            ]
        )
        self.project = nn.ModuleList(nn.Conv2d(item, channels, 1) for item in widths)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Finest first."""
        x, maps = image, []
        for stage, project in zip(self.stages, self.project, strict=True):
            x = stage(x)
            maps.append(project(x))
        return maps


class Extractor(nn.Module):
    """Tokens of three scales ask one map of the ViT, then think over what they found, each scale by itself.

    Args:
        channels: D.
        drop_path: Probability that a sample skips the second half in training.
    """

    def __init__(self, channels: int, *, drop_path: float) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(channels, eps=1e-6)
        self.dense_norm = nn.LayerNorm(channels, eps=1e-6)
        self.attention = DeformableAttention(channels)
        self.inner_norm = nn.LayerNorm(channels, eps=1e-6)
        self.feed_forward = _FeedForward(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, places: Tensor, sizes: Sequence[Size], dense: Tensor) -> Tensor:
        """Tokens (B, Q, D) of grids of `sizes`, whose centres are `places` (Q, 2); `dense` is (B, D, h, w)."""
        asked = self.dense_norm(_tokens(dense))
        tokens = tokens + self.attention(self.query_norm(tokens), places, asked, _size(dense))
        return tokens + self.drop_path(self.feed_forward(self.inner_norm(tokens), sizes))


class _FeedForward(nn.Module):
    """Two linear layers with a depthwise convolution between them, over each scale with the same weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = int(channels * _FEED_FORWARD)
        self.first = nn.Linear(channels, hidden)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.second = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor, sizes: Sequence[Size]) -> Tensor:
        mixed = [_tokens(self.mix(item)) for item in _maps(self.first(tokens), sizes)]
        return self.second(F.gelu(torch.cat(mixed, dim=1)))


def _conv(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


def _size(item: Tensor) -> Size:
    return item.shape[-2], item.shape[-1]


def _tokens(item: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, h w, D), row by row."""
    return item.flatten(2).transpose(1, 2)


def _maps(tokens: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
    """(B, Q, D) -> a map (B, D, h, w) of each grid."""
    parts = tokens.transpose(1, 2).split([height * width for height, width in sizes], dim=2)
    return [part.unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]


def _initialise(module: nn.Module) -> None:
    """As ViT-Adapter starts, from which the authors took it."""
    if isinstance(module, DeformableAttention):
        module.initialise()
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        seen = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / seen))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
