"""Primus (Wald et al. 2025, arXiv:2503.01835): a plain ViT over the patches of a volume, and a light decoder."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.grids import strides_by_axis
from guidino_cli.models.layers import DropPath, initialise_kaiming

_PATCH = 8
_AXES = 3
_ROPE_BASE = 10_000.0
# Width, blocks and heads.
_SIZES = {"S": (396, 12, 6), "B": (792, 12, 12), "M": (864, 16, 12), "L": (1056, 24, 16)}


class Primus(Segmenter):
    """Patches of 8 x 8 x 8 voxels become tokens; three transposed convolutions lead back from them.

    The blocks are EVA-02's: rotary position codes of the three axes in queries and keys, SwiGLU, LayerScale. A learned
    code of every patch's place is added as well. No skip connection, so a guide at the bottleneck gates all there is.
    With one channel, two classes and 160 voxels: S 26,351,774 parameters, B 98,173,994, M 152,021,402, L 332,177,954.

    Args:
        num_classes: K, background included.
        in_channels: C.
        size: Width, depth and heads of the paper's S, B, M or L.
        width: Channels of a token instead of the size's, a multiple of 6 times the heads.
        depth: Blocks instead of the size's.
        heads: Attention heads instead of the size's.
        image_size: Side of the patches of volumes whose cells have a learned code each, or one for each axis, multiples
            of 8: best `data.patch_size`. For other sizes the codes are interpolated.
        drop_path: Share of samples that skip a branch of the last block in training; less for the blocks before it.
    """

    dims = 3
    stride = _PATCH
    output_layers = ("decoder.6",)

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        size: Literal["S", "B", "M", "L"] = "M",
        width: int | None = None,
        depth: int | None = None,
        heads: int | None = None,
        image_size: int | Sequence[int] = 160,
        drop_path: float = 0.2,
    ) -> None:
        super().__init__()
        if size not in _SIZES:
            raise ValueError(f"size is '{size}', expected S, B, M or L")
        default_width, default_depth, default_heads = _SIZES[size]
        width, depth, heads = width or default_width, depth or default_depth, heads or default_heads
        if width % (2 * _AXES * heads):
            raise ValueError(
                f"width is {width}, expected a multiple of {2 * _AXES * heads}: 6 for each of {heads} heads"
            )
        sides = strides_by_axis(image_size, _AXES)
        if any(side % _PATCH or side < _PATCH for side in sides):
            raise ValueError(f"image_size is {image_size}, expected a multiple of {_PATCH}")
        self.embed = nn.Conv3d(in_channels, width, _PATCH, stride=_PATCH)
        grid = [side // _PATCH for side in sides]
        self.position = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, width, *grid), std=0.02))
        shares = [drop_path * number / max(1, depth - 1) for number in range(depth)]
        blocks = [_Block(width, heads=heads, drop_path=share) for share in shares]
        for number, block in enumerate(blocks, start=1):
            block.initialise(number)
        self.heads, self.blocks = heads, nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.decoder = _Decoder(width, num_classes)
        self.embed.apply(initialise_kaiming)
        self.decoder.apply(initialise_kaiming)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """The only map, at 1/8 of the volume."""
        x = self.embed(image)
        grid = x.shape[2:]
        position: Tensor = self.position
        if position.shape[2:] != grid:
            position = F.interpolate(position, size=tuple(grid), mode="trilinear", align_corners=False)
        tokens = (x + position).flatten(2).transpose(1, 2)
        codes = _rotations(grid, tokens.shape[-1] // self.heads, like=tokens)
        for block in self.blocks:
            tokens = block(tokens, codes)
        return [self.norm(tokens).transpose(1, 2).unflatten(2, tuple(grid))]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at the volume's size."""
        return [self.decoder(features[-1])]


class _Block(nn.Module):
    """EVA-02's block: attention with rotary codes and SwiGLU, each with a norm before, one inside, and LayerScale."""

    def __init__(self, width: int, *, heads: int, drop_path: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.norm_inner = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        self.scale_attention = nn.Parameter(torch.full((width,), 0.1))
        hidden = int(width * 8 / 3)
        self.norm_mlp = nn.LayerNorm(width)
        self.gate, self.expand = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.norm_hidden = nn.LayerNorm(hidden)
        self.shrink = nn.Linear(hidden, width)
        self.scale_mlp = nn.Parameter(torch.full((width,), 0.1))
        self.drop = DropPath(drop_path)

    def initialise(self, number: int) -> None:
        """Draw the weights, those at the end of both branches smaller in deeper blocks, counted from 1, as in BEiT."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                std = 0.02 / math.sqrt(2 * number) if module in {self.out, self.shrink} else 0.02
                nn.init.normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, codes: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.drop(self.scale_attention * self._attend(self.norm_attention(x), codes))
        normed = self.norm_mlp(x)
        hidden = self.norm_hidden(F.silu(self.gate(normed)) * self.expand(normed))
        return x + self.drop(self.scale_mlp * self.shrink(hidden))

    def _attend(self, x: Tensor, codes: tuple[Tensor, Tensor]) -> Tensor:
        projections = (self.query, self.key, self.value)
        q, k, v = (project(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for project in projections)
        # Turned in full precision under autocast, too.
        q, k = (_rotated(item, codes).to(v.dtype) for item in (q, k))
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.out(self.norm_inner(mixed))
        return out


def _rotations(grid: Sequence[int], channels: int, *, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine (N, channels / 2) of the angle by which each pair of channels of a token is turned.

    A third of the pairs is turned by the place along each axis, at speeds from 1 down to almost 1 / 10,000 a cell.
    """
    pairs = channels // (2 * _AXES)
    speeds = _ROPE_BASE ** -(torch.arange(pairs, device=like.device) / pairs)
    places = torch.meshgrid(*(torch.arange(side, device=like.device).float() for side in grid), indexing="ij")
    angles = torch.cat([place.flatten()[:, None] * speeds for place in places], dim=1)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def _rotated(x: Tensor, codes: tuple[Tensor, Tensor]) -> Tensor:
    """(B, heads, N, channels) with every pair of neighbouring channels turned."""
    cosine, sine = codes
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], dim=-1).flatten(-2)


class _Decoder(nn.Sequential):
    """Three doublings by transposed convolutions, with a norm over the channels of each cell between them."""

    def __init__(self, width: int, num_classes: int) -> None:
        shrink = (width / (2 * num_classes)) ** (1 / 3)
        hidden = [_multiple_of_8(width / shrink ** (step + 1)) for step in range(2)]
        layers: list[nn.Module] = []
        for before, after in pairwise([width, *hidden]):
            layers += [nn.ConvTranspose3d(before, after, 2, stride=2), _LayerNorm3d(after), nn.GELU()]
        super().__init__(*layers, nn.ConvTranspose3d(hidden[-1], num_classes, 2, stride=2))


class _LayerNorm3d(nn.LayerNorm):
    """LayerNorm over the channels of each cell of a map (B, C, d, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def _multiple_of_8(channels: float) -> int:
    return max(8, round(channels / 8) * 8)
