"""Swin-Unet (Cao et al., ECCV 2022 Workshops): a U-Net whose every block is attention within shifted windows."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.window_attention import PatchExpanding, PatchMerging, SwinBlock, channels_first, channels_last

_PATCH = 4


class SwinUNet(Segmenter):
    """A Swin-T encoder of depths 2, 2, 2, 2 and its mirror image as decoder; skips are joined and brought to width.

    A skip is what a stage of the encoder receives, not what it gives, as in the authors' code. With one
    class 27,168,132 parameters at windows of 7 cells, and 27,175,524 at 8.

    The paper works at 224 px with windows of 7 cells; at 256 px, 8 is the window whose multiples all maps are, and the
    default. Maps that are no multiple are padded within the attention, so any image size will do. The authors start
    encoder and decoder from a Swin-T trained on ImageNet; here all weights start at random.

    Args:
        num_classes: K, background included.
        in_channels: C.
        width: Channels of the finest level; doubled at each coarser one.
        depths: Blocks of each level, finest first, alike in encoder and decoder; every other one is shifted.
        heads: Attention heads of each level.
        window: Side of a window in cells.
        drop_path: Share of samples that skip the encoder's last block in training; less for the blocks before it, and
            as much for the decoder's blocks of the same level. The authors' configuration has 0.2.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 96,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 8,
        drop_path: float = 0.2,
    ) -> None:
        super().__init__()
        if len(depths) != len(heads) or len(depths) < 2:
            raise ValueError(
                f"depths {list(depths)} and heads {list(heads)}, expected one of each for two or more levels"
            )
        widths = [width * 2**level for level in range(len(depths))]
        self.stride = _PATCH * 2 ** (len(depths) - 1)
        drops = _rising(drop_path, depths)
        stages = list(zip(widths, depths, heads, drops, strict=True))
        self.embed = nn.Conv2d(in_channels, width, _PATCH, stride=_PATCH)
        self.norm_embed = nn.LayerNorm(width)
        self.stages = nn.ModuleList(_Stage(*stage, window=window) for stage in stages)
        self.merge = nn.ModuleList(PatchMerging(channels) for channels in widths[:-1])
        self.norm_bottleneck = nn.LayerNorm(widths[-1])
        self.expand = nn.ModuleList(PatchExpanding(coarse, fine, 2) for fine, coarse in pairwise(widths))
        self.join = nn.ModuleList(nn.Linear(2 * channels, channels) for channels in widths[:-1])
        self.rise = nn.ModuleList(_Stage(*stage, window=window) for stage in stages[:-1])
        self.norm_last = nn.LayerNorm(width)
        self.expand_last = PatchExpanding(width, width, _PATCH)
        self.head = nn.Conv2d(width, num_classes, 1, bias=False)
        self.apply(_reset)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Inputs of the stages at 1/4, 1/8 and 1/16 of the image size, and the output of the last stage, at 1/32."""
        x = self.norm_embed(channels_last(self.embed(image)))
        features = []
        for stage, merge in zip(self.stages[:-1], self.merge, strict=True):
            features.append(channels_first(x))
            x = merge(stage(x))
        return [*features, channels_first(self.norm_bottleneck(self.stages[-1](x)))]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size; no deep supervision."""
        x = channels_last(features[-1])
        for level in reversed(range(len(self.rise))):
            x = torch.cat([self.expand[level](x), channels_last(features[level])], dim=-1)
            x = self.rise[level](self.join[level](x))
        return [self.head(channels_first(self.expand_last(self.norm_last(x))))]


def _rising(last: float, depths: Sequence[int]) -> list[list[float]]:
    """Drop-path rates of the blocks of each stage: from 0 at the first block in even steps to `last`."""
    rates = iter(torch.linspace(0, last, sum(depths), device="cpu").tolist())
    return [[next(rates) for _ in range(depth)] for depth in depths]


def _reset(module: nn.Module) -> None:
    # Swin's.
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class _Stage(nn.Sequential):
    """Blocks of one level: windows, shifted windows, and so on in turn."""

    def __init__(self, channels: int, depth: int, heads: int, drops: Sequence[float], *, window: int) -> None:
        super().__init__(
            *(
                SwinBlock(channels, heads=heads, window=window, shift=(i % 2) * (window // 2), drop_path=drops[i])
                for i in range(depth)
            )
        )
