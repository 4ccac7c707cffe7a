"""nnU-Net's networks (Isensee et al., 2021 and 2024): residual or plain encoder, light decoder, in 2-D and 3-D."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.grids import strides_by_axis
from guidino_cli.models.layers import (
    IN_PLANE,
    IN_SPACE,
    LEAKY_RELU_SLOPE,
    PerAxis,
    SpatialLayers,
    conv_norm_act,
    conv_stage,
    decode_with_skips,
    half,
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

    output_layers = ("heads",)

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
        self._build(
            num_classes,
            in_channels,
            encoder=encoder,
            widths=widths,
            blocks=blocks,
            strides=None,
            kernels=None,
            deep_supervision=deep_supervision,
        )

    def _build(
        self,
        num_classes: int,
        in_channels: int,
        *,
        encoder: Literal["residual", "plain"],
        widths: Sequence[int],
        blocks: Sequence[int] | None,
        strides: Sequence[Sequence[int]] | None,
        kernels: Sequence[Sequence[int]] | None,
        deep_supervision: bool,
    ) -> None:
        layers = IN_PLANE if self.dims == 2 else IN_SPACE
        blocks = _checked_blocks(encoder, widths, blocks)
        down = _per_stage(strides, len(widths), dims=self.dims, default=(1, *[2] * (len(widths) - 1)), name="strides")
        size = _per_stage(kernels, len(widths), dims=self.dims, default=(3,) * len(widths), name="kernels")
        self.stride = _total_stride(down, dims=self.dims)
        make = _residual_stage if encoder == "residual" else conv_stage
        is_residual = encoder == "residual"
        stem = conv_stage(in_channels, widths[0], count=1, kernel=size[0], layers=layers) if is_residual else None
        self.stem = nn.Identity() if stem is None else stem
        entry = in_channels if stem is None else widths[0]
        self.stages = nn.ModuleList(
            make(before, after, count=count, stride=stride, kernel=kernel, layers=layers)
            for (before, after), count, stride, kernel in zip(
                pairwise([entry, *widths]), blocks, down, size, strict=True
            )
        )
        finer = list(widths[:-1])
        rises = zip(pairwise(widths), down[1:], strict=True)
        up: Any = layers.transposed_conv
        self.up = nn.ModuleList(up(below, w, stride, stride=stride) for (w, below), stride in rises)
        count = _DECODER_CONVS[encoder]
        self.merge = nn.ModuleList(
            conv_stage(2 * w, w, count=count, kernel=kernel, layers=layers)
            for w, kernel in zip(finer, size[:-1], strict=True)
        )
        heads = finer[:-1] if deep_supervision else finer[:1]
        self.heads = nn.ModuleList(layers.conv(w, num_classes, 1) for w in heads)
        self.apply(_initialise)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """A map of each stage: the image's size, then smaller by its stride."""
        x, features = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at the sizes of all maps but the two coarsest, or at image size alone."""
        *skips, x = features
        return decode_with_skips(x, skips, rise=lambda level, x: self.up[level](x), merge=self.merge, heads=self.heads)


class NNUNet3d(NNUNet):
    """The same networks for volumes, with the strides and kernels of a plan for anisotropic voxels.

    The default is nnU-Net's for isotropic voxels and a patch of 128: six stages, 3x3x3 kernels, halved everywhere.
    With one input channel and two classes 102,349,128 parameters, plain 31,194,952.

    Args:
        num_classes: K, background included.
        in_channels: C.
        encoder: "residual" (ResEnc, since 2024) or "plain".
        widths: Channels of each stage.
        blocks: Residual blocks, or convolutions, of each encoder stage; by default nnU-Net's for six stages.
        strides: By how much each stage makes each axis smaller, such as [1, 2, 2] for slices that lie far apart; by
            default 1 in the first stage and 2 in all others.
        kernels: Sides of the convolutions of each stage, such as [1, 3, 3]; by default 3.
        deep_supervision: Whether the coarser heads exist.
    """

    dims = 3

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        encoder: Literal["residual", "plain"] = "residual",
        widths: Sequence[int] = (32, 64, 128, 256, 320, 320),
        blocks: Sequence[int] | None = None,
        strides: Sequence[Sequence[int]] | None = None,
        kernels: Sequence[Sequence[int]] | None = None,
        deep_supervision: bool = True,
    ) -> None:
        nn.Module.__init__(self)
        self._build(
            num_classes,
            in_channels,
            encoder=encoder,
            widths=widths,
            blocks=blocks,
            strides=strides,
            kernels=kernels,
            deep_supervision=deep_supervision,
        )


def _checked_blocks(encoder: str, widths: Sequence[int], blocks: Sequence[int] | None) -> Sequence[int]:
    if encoder not in _BLOCKS:
        raise ValueError(f"encoder is '{encoder}', expected residual or plain")
    blocks = _BLOCKS[encoder] if blocks is None else blocks
    if len(widths) < 3 or len(blocks) != len(widths):
        found = f"widths {list(widths)} and blocks {list(blocks)}"
        raise ValueError(f"{found}: expected equally many, 3 or more")
    if min(blocks) < 1:
        raise ValueError(f"blocks are {list(blocks)}, expected at least one in each stage")
    return blocks


def _per_stage(
    given: Sequence[Sequence[int]] | None, stages: int, *, dims: int, default: tuple[int, ...], name: str
) -> tuple[PerAxis, ...]:
    """One kernel or stride for each stage."""
    if given is None:
        return default
    if len(given) != stages or any(len(item) != dims or min(item) < 1 for item in given):
        found = [list(item) for item in given]
        raise ValueError(f"{name} are {found}, expected {dims} numbers for each of the {stages} widths")
    if name == "kernels" and any(side % 2 == 0 for item in given for side in item):
        raise ValueError(f"kernels are {[list(item) for item in given]}, expected odd sides")
    return tuple(tuple(item) for item in given)


def _total_stride(strides: Sequence[PerAxis], *, dims: int) -> PerAxis:
    by_axis = tuple(prod(strides_by_axis(stride, dims)[axis] for stride in strides) for axis in range(dims))
    return by_axis[0] if len(set(by_axis)) == 1 else by_axis


class _ResidualBlock(nn.Module):
    """ResNet-D's block: the shortcut shrinks by average pooling, and changes width by a 1x1 convolution."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: PerAxis,
        *,
        kernel: PerAxis = 3,
        layers: SpatialLayers = IN_PLANE,
    ) -> None:
        super().__init__()
        conv: Any = layers.conv
        pool: Any = layers.average_pool
        self.first = conv_norm_act(channels_in, channels_out, kernel=kernel, stride=stride, layers=layers)
        self.second: nn.Module = conv(channels_out, channels_out, kernel, padding=half(kernel))
        self.norm = layers.instance_norm(channels_out)
        is_smaller = stride > 1 if isinstance(stride, int) else max(stride) > 1
        shortcut: list[nn.Module] = [pool(stride, stride)] if is_smaller else []
        if channels_in != channels_out:
            shortcut += [conv(channels_in, channels_out, 1, bias=False), layers.instance_norm(channels_out)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.second(self.first(x))) + self.shortcut(x), LEAKY_RELU_SLOPE)


def _residual_stage(
    channels_in: int, channels_out: int, *, count: int, stride: PerAxis, kernel: PerAxis, layers: SpatialLayers
) -> nn.Sequential:
    first = _ResidualBlock(channels_in, channels_out, stride, kernel=kernel, layers=layers)
    others = (_ResidualBlock(channels_out, channels_out, 1, kernel=kernel, layers=layers) for _ in range(count - 1))
    return nn.Sequential(first, *others)


def _initialise(module: nn.Module) -> None:
    """He's initialisation; a residual block begins as its shortcut."""
    initialise_kaiming(module)
    if isinstance(module, _ResidualBlock):
        nn.init.zeros_(module.norm.weight)
