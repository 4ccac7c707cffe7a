"""U-Mamba: a residual nnU-Net with Mamba blocks over its maps (Ma, Li & Wang 2024, arXiv:2401.04722)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.layers import (
    LEAKY_RELU_SLOPE,
    InstanceNorm,
    conv_norm_act,
    decode_with_skips,
    initialise_kaiming,
)
from guidino_cli.models.mamba import Mamba

MambaPlacement = Literal["bot", "enc"]


class UMamba(Segmenter):
    """Residual stages down, Mamba after the last of them or after every second, residual stages up.

    The finest map of the encoder is not joined on the way up, as in the two-dimensional networks of the authors' code.

    47,513,509 parameters with three input channels, one class and the seven stages of the paper's endoscopy plan;
    with eight, for its 512 x 512 plan, 64,792,742. The authors' code counts one head more, of the map above the
    bottleneck (512 K + K), whose weight in nnU-Net's loss is 0: here it does not exist.

    The Mamba blocks read the cells of a map row by row, as the paper says, so any image size will do. The authors'
    code lets them read channels instead where a map has fewer cells than channels, which ties their weights to one
    image size; for "enc" its counts are therefore lower (64.0 million with eight stages, here 66.96).

    Args:
        num_classes: K, background included.
        in_channels: C.
        where: "bot", one Mamba block at the bottleneck, or "enc", one after every second stage, the last among them.
        widths: Channels of each stage; every stage but the first halves the size.
        blocks: Residual blocks of each stage of the encoder; by default two in the finer half and one in the coarser.
            The decoder has two in its coarser half and one in its finer, as the authors' plans.
        states: N of each inner channel of a Mamba block.
        deep_supervision: Whether the coarser heads exist.
    """

    output_layers = ("heads",)

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        where: MambaPlacement = "bot",
        widths: Sequence[int] = (32, 64, 128, 256, 512, 512, 512),
        blocks: Sequence[int] | None = None,
        states: int = 16,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        if where not in {"bot", "enc"}:
            raise ValueError(f"where is '{where}', expected bot (the bottleneck) or enc (every second stage)")
        count, half = len(widths), -(-len(widths) // 2)
        blocks = [2 if level < half else 1 for level in range(count)] if blocks is None else blocks
        if count < 3 or len(blocks) != count or min(blocks) < 1:
            found = f"widths {list(widths)} and blocks {list(blocks)}"
            raise ValueError(f"{found}: expected equally many, 3 or more, and at least one block in each stage")
        self.stride = 2 ** (count - 1)
        self.stem = _residual_stage(in_channels, widths[0], count=blocks[0])
        self.stages = nn.ModuleList(
            _residual_stage(before, after, count=number, stride=1 if level == 0 else 2)
            for level, ((before, after), number) in enumerate(zip(pairwise([widths[0], *widths]), blocks, strict=True))
        )
        scanned = {count - 1} if where == "bot" else set(range(count - 1, -1, -2))
        self.scans = nn.ModuleList(
            MambaLayer(width, states=states) if level in scanned else nn.Identity()
            for level, width in enumerate(widths)
        )
        self.up = nn.ModuleList(nn.Conv2d(below, width, 1) for width, below in pairwise(widths))
        self.merge = nn.ModuleList(
            _residual_stage(width if level == 0 else 2 * width, width, count=2 if count - 2 - level < half else 1)
            for level, width in enumerate(widths[:-1])
        )
        heads = widths[:-2] if deep_supervision else widths[:1]
        self.heads = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in heads)
        self.apply(initialise_kaiming)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """A map of each stage but the first, after its Mamba block if it has one: 1/2, 1/4, ... of the image.

        The first stage's own map is needed by the next stage alone.
        """
        x, features = self.stem(image), []
        for stage, scan in zip(self.stages, self.scans, strict=True):
            x = scan(stage(x))
            features.append(x)
        return features[1:]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at 1, 1/2, 1/4, ... of the image, or at image size alone."""
        *skips, x = features
        return decode_with_skips(x, [None, *skips], rise=self._rise, merge=self.merge, heads=self.heads)

    def _rise(self, level: int, x: Tensor) -> Tensor:
        out: Tensor = self.up[level](F.interpolate(x, scale_factor=2, mode="nearest"))
        return out


class MambaLayer(nn.Module):
    """A Mamba block over the normed cells of a map, row by row; nothing passes by it."""

    def __init__(self, channels: int, *, states: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mamba = Mamba(channels, states=states)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) -> (B, D, h, w)."""
        tokens = self.mamba(self.norm(x.flatten(2).transpose(1, 2)))
        out: Tensor = tokens.transpose(1, 2).unflatten(2, x.shape[-2:])
        return out


class _ResidualBlock(nn.Module):
    """Two convolutions with a shortcut: a 1x1 convolution if size or width may change, else the identity."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int, projects: bool) -> None:
        super().__init__()
        self.first = conv_norm_act(channels_in, channels_out, stride=stride)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.norm = InstanceNorm(channels_out)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, stride=stride) if projects else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.second(self.first(x))) + self.shortcut(x), LEAKY_RELU_SLOPE)


def _residual_stage(channels_in: int, channels_out: int, *, count: int, stride: int = 1) -> nn.Sequential:
    first = _ResidualBlock(channels_in, channels_out, stride=stride, projects=True)
    others = (_ResidualBlock(channels_out, channels_out, stride=1, projects=False) for _ in range(count - 1))
    return nn.Sequential(first, *others)
