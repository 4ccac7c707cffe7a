"""Swin-UMamba-D: a U-Net whose maps are scanned in four directions (Liu et al., MICCAI 2024, arXiv:2402.03302)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.layers import DropPath, initialise_kaiming
from guidino_cli.models.mamba import init_a_log, init_dt_bias, selective_scan
from guidino_cli.models.window_attention import PatchExpanding, PatchMerging, channels_first, channels_last

_DIRECTIONS = 4
# Side of the patches, cells of the finest map.
_PATCH = 4


class SwinUMamba(Segmenter):
    """VMamba-T as encoder and its blocks again on the way up; the paper's light variant, there marked with a dagger.

    27,490,371 parameters with three input channels and one class. The authors' code has a fourth head (384 K + K), of
    the map at 1/16, whose weight in nnU-Net's loss is 0: here it does not exist. Gao et al. 2025 (Dino U-Net) report
    37.763 million for what they ran; why is not known. The authors start the encoder from a VMamba-T trained on
    ImageNet, which the paper finds to matter much; here all weights start at random, drawn as in their code.

    Args:
        num_classes: K, background included.
        in_channels: C.
        width: Channels of the finest level, at 1/4 of the image; doubled at each coarser one.
        depths: Blocks of each level of the encoder, finest first; VMamba-T's by default.
        rising: Blocks of each level of the decoder.
        states: N of each inner channel.
        drop_path: Share of samples that skip the encoder's last block, and the decoder's first, in training; less for
            the blocks before the one and after the other.
        deep_supervision: Whether the coarser heads exist.
    """

    output_layers = ("heads",)

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 96,
        depths: Sequence[int] = (2, 2, 9, 2),
        rising: int = 2,
        states: int = 16,
        drop_path: float = 0.2,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        if len(depths) < 2 or min(depths) < 1:
            raise ValueError(f"depths {list(depths)}, expected one or more blocks for each of two or more levels")
        widths = [width * 2**level for level in range(len(depths))]
        self.stride = _PATCH * 2 ** (len(depths) - 1)
        self.embed = nn.Conv2d(in_channels, width, _PATCH, stride=_PATCH)
        self.norm_embed = nn.LayerNorm(width)
        drops = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        self.stages = nn.ModuleList(
            nn.Sequential(*(VSSBlock(channels, states=states, drop_path=next(drops)) for _ in range(depth)))
            for channels, depth in zip(widths, depths, strict=True)
        )
        self.merge = nn.ModuleList(PatchMerging(channels) for channels in widths[:-1])
        self.expand = nn.ModuleList(PatchExpanding(coarse, fine, 2) for fine, coarse in pairwise(widths))
        self.join = nn.ModuleList(nn.Linear(2 * channels, channels) for channels in widths[:-1])
        # From the coarsest level up, the order in which they work.
        falls = torch.linspace(drop_path, 0, rising * (len(widths) - 1), device="cpu").view(-1, rising).tolist()
        self.rise = nn.ModuleList(
            nn.Sequential(*(VSSBlock(channels, states=states, drop_path=share) for share in shares))
            for channels, shares in zip(widths[:-1], reversed(falls), strict=True)
        )
        self.expand_last = PatchExpanding(width, width, _PATCH)
        heads = [width, *(widths[:-2] if deep_supervision else [])]
        self.heads = nn.ModuleList(nn.Conv2d(channels, num_classes, 1) for channels in heads)
        self.apply(initialise_kaiming)
        self.stages.apply(_initialise)
        self.merge.apply(_initialise)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Maps at 1/4, 1/8, 1/16 and 1/32 of the image."""
        x = self.stages[0](self.norm_embed(channels_last(self.embed(image))))
        features = [channels_first(x)]
        for merge, stage in zip(self.merge, self.stages[1:], strict=True):
            x = stage(merge(x))
            features.append(channels_first(x))
        return features

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at 1, 1/4 and 1/8 of the image, or at image size alone."""
        x = channels_last(features[-1])
        levels: list[Tensor] = []
        for level in reversed(range(len(self.rise))):
            x = torch.cat([self.expand[level](x), channels_last(features[level])], dim=-1)
            x = self.rise[level](self.join[level](x))
            levels.insert(0, x)
        maps = [self.expand_last(x), *levels]
        return [head(channels_first(item)) for head, item in zip(self.heads, maps, strict=False)]


class VSSBlock(nn.Module):
    """VMamba's block: a normed map, scanned, added to what came in; there is no MLP.

    Args:
        channels: C.
        states: See `SS2D`.
        drop_path: Share of samples that skip the block in training.
    """

    def __init__(self, channels: int, *, states: int = 16, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.scan = SS2D(channels, states=states)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, h, w, C) in and out."""
        out: Tensor = x + self.drop_path(self.scan(self.norm(x)))
        return out


class SS2D(nn.Module):
    """VMamba's SS2D (Liu et al. 2024, arXiv:2401.10166): a selective scan along rows, columns, and both backwards.

    Every cell hears of every other: at least one path comes by the other one first.

    Args:
        channels: C.
        states: N of each inner channel.
        expand: Inner channels for each channel.
    """

    def __init__(self, channels: int, *, states: int = 16, expand: int = 2) -> None:
        super().__init__()
        inner, rank = expand * channels, math.ceil(channels / 16)
        self.sizes = (rank, states, states)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.local = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        # Linear layers, one a direction: groups of a convolution over single cells.
        self.x_proj = nn.Conv1d(_DIRECTIONS * inner, _DIRECTIONS * sum(self.sizes), 1, groups=_DIRECTIONS, bias=False)
        self.dt_proj = nn.Conv1d(_DIRECTIONS * rank, _DIRECTIONS * inner, 1, groups=_DIRECTIONS, bias=False)
        # Added within the scan.
        self.dt_bias = nn.Parameter(init_dt_bias(_DIRECTIONS * inner))
        self.A_log = nn.Parameter(init_a_log(_DIRECTIONS * inner, states))
        self.D = nn.Parameter(torch.ones(_DIRECTIONS * inner))
        self.norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, channels, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, h, w, C) in and out."""
        x, gate = self.in_proj(x).chunk(2, dim=-1)
        x = F.silu(self.local(channels_first(x)))
        paths = cross_scan(x).flatten(1, 2)
        mixed = self.x_proj(paths).unflatten(1, (_DIRECTIONS, -1))
        low, enter, read = mixed.split(self.sizes, dim=2)
        y = selective_scan(
            paths,
            self.dt_proj(low.flatten(1, 2)),
            -torch.exp(self.A_log.float()),
            enter,
            read,
            self.D.float(),
            delta_bias=self.dt_bias.float(),
        )
        maps = cross_merge(y.unflatten(1, (_DIRECTIONS, -1)), (x.shape[-2], x.shape[-1]))
        out: Tensor = self.out_proj(self.norm(channels_last(maps)) * F.silu(gate))
        return out


def cross_scan(x: Tensor) -> Tensor:
    """A map (B, C, h, w) as paths (B, 4, C, h w): row by row, column by column, and both from the last cell on."""
    forwards = torch.stack([x.flatten(2), x.transpose(2, 3).flatten(2)], dim=1)
    return torch.cat([forwards, forwards.flip(-1)], dim=1)


def cross_merge(paths: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """The way back from `cross_scan`: each cell (B, C, h, w) is the sum of what the four paths say there."""
    h, w = size_hw
    rows, columns = (paths[:, :2] + paths[:, 2:].flip(-1)).unbind(dim=1)
    return rows.unflatten(-1, (h, w)) + columns.unflatten(-1, (w, h)).transpose(2, 3)


def _initialise(module: nn.Module) -> None:
    """Swin's and VMamba's, of the encoder; the decoder's linear layers keep PyTorch's."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
