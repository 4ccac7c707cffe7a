"""nnU-Net's networks in two dimensions (Isensee et al., 2021 and 2024): residual or plain encoder, light decoder."""

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
    conv_stage,
    decode_with_skips,
    initialise_kaiming,
)

_BLOCKS = {"residual": (1, 3, 4, 6, 6, 6), "plain": (2, 2, 2, 2, 2, 2)}
_DECODER_CONVS = {"residual": 1, "plain": 2}


class NNUNet(Segmenter):
    """The residual encoder U-Net that GuiDINO compares with, or nnU-Net's older plain one.

    The decoder has a head at every resolution but the two coarsest: the bottleneck never had one, and nnU-Net gives the
    head above it weight 0, so here it does not exist. Its remaining weights 1, 1/2, 1/4, ... are those of
    `train.loss`. 71,815,652 parameters with 3 input channels and one class.

    Args:
        num_classes: K, background included.
        in_channels: C.
        encoder: "residual" (ResEnc, since 2024) or "plain".
        widths: Channels of each stage; every stage but the first halves the size.
        blocks: Residual blocks, or convolutions, of each encoder stage; by default nnU-Net's for six stages.
        deep_supervision: Whether the coarser heads exist.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        encoder: Literal["residual", "plain"] = "residual",
        widths: Sequence[int] = (32, 64, 128, 256, 512, 512),
        blocks: Sequence[int] | None = None,
        deep_supervision: bool = True,
    ) -> None:
        super().__init__()
        if encoder not in _BLOCKS:
            raise ValueError(f"encoder is '{encoder}', expected residual or plain")
        blocks = _BLOCKS[encoder] if blocks is None else blocks
        if len(widths) < 3 or len(blocks) != len(widths):
            found = f"widths {list(widths)} and blocks {list(blocks)}"
            raise ValueError(f"{found}: expected equally many, 3 or more")
        if min(blocks) < 1:
            raise ValueError(f"blocks are {list(blocks)}, expected at least one in each stage")
        self.stride = 2 ** (len(widths) - 1)
        make = _residual_stage if encoder == "residual" else conv_stage
        self.stem = conv_stage(in_channels, widths[0], count=1) if encoder == "residual" else nn.Identity()
        entry = widths[0] if encoder == "residual" else in_channels
        self.stages = nn.ModuleList(
            make(before, after, count=count, stride=1 if level == 0 else 2)
            for level, ((before, after), count) in enumerate(zip(pairwise([entry, *widths]), blocks, strict=True))
        )
        finer = list(widths[:-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, w, 2, stride=2) for w, below in pairwise(widths))
        self.merge = nn.ModuleList(conv_stage(2 * w, w, count=_DECODER_CONVS[encoder]) for w in finer)
        heads = finer[:-1] if deep_supervision else finer[:1]
        self.heads = nn.ModuleList(nn.Conv2d(w, num_classes, 1) for w in heads)
        self.apply(_initialise)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """A map of each stage: the image's size, then halved from stage to stage."""
        x, features = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at 1, 1/2, 1/4, ... of the image, or at image size alone."""
        *skips, x = features
        return decode_with_skips(x, skips, rise=lambda level, x: self.up[level](x), merge=self.merge, heads=self.heads)


class _ResidualBlock(nn.Module):
    """ResNet-D's block: the shortcut shrinks by average pooling, and changes width by a 1x1 convolution."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm_act(channels_in, channels_out, stride=stride)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.norm = InstanceNorm(channels_out)
        shortcut: list[nn.Module] = [nn.AvgPool2d(stride, stride)] if stride > 1 else []
        if channels_in != channels_out:
            shortcut += [nn.Conv2d(channels_in, channels_out, 1, bias=False), InstanceNorm(channels_out)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.second(self.first(x))) + self.shortcut(x), LEAKY_RELU_SLOPE)


def _residual_stage(channels_in: int, channels_out: int, *, count: int, stride: int) -> nn.Sequential:
    first = _ResidualBlock(channels_in, channels_out, stride)
    return nn.Sequential(first, *(_ResidualBlock(channels_out, channels_out, 1) for _ in range(count - 1)))


def _initialise(module: nn.Module) -> None:
    """He's initialisation; a residual block begins as its shortcut."""
    initialise_kaiming(module)
    if isinstance(module, _ResidualBlock):
        nn.init.zeros_(module.norm.weight)
