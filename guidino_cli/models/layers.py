"""Layers and blocks shared by several segmenters, and the import of optional libraries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from guidino_cli.errors import DependencyError


class AnySizeInstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation that also takes a single cell, whose normalised value is 0.

    torch refuses that, but the deepest map of an image no larger than the stride is a single cell.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.shape[-2:] != (1, 1) else _normalize_cell(x, self)


class AnySizeInstanceNorm3d(nn.InstanceNorm3d):
    """`AnySizeInstanceNorm` of volumes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.shape[-3:] != (1, 1, 1) else _normalize_cell(x, self)


def _normalize_cell(x: Tensor, norm: nn.InstanceNorm2d | nn.InstanceNorm3d) -> Tensor:
    zeros, per_channel = x - x, (1, -1, *[1] * (x.ndim - 2))
    return zeros if not norm.affine else zeros * norm.weight.view(per_channel) + norm.bias.view(per_channel)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of each cell of a map (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, zero for a share of the samples, the others scaled up.

    Args:
        share: Probability, at least 0 and below 1, that a sample goes without.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"drop_path is {share}, expected at least 0 and below 1")
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Any shape whose first axis is the batch."""
        if not self.training or self.share == 0:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.share
        return x * kept.to(x.dtype) / (1 - self.share)

    def extra_repr(self) -> str:
        return f"share={self.share}"


LEAKY_RELU_SLOPE = 0.01


class InstanceNorm(AnySizeInstanceNorm):
    """Affine instance normalisation, of single cells too."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)


class InstanceNorm3d(AnySizeInstanceNorm3d):
    """`InstanceNorm` of volumes."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)


PerAxis = int | tuple[int, ...]
"""A kernel or a stride: one number for all axes, or one for each."""


@dataclass(frozen=True)
class SpatialLayers:
    """The layers of networks with two or three axes of space."""

    conv: type[nn.Conv2d] | type[nn.Conv3d]
    transposed_conv: type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]
    average_pool: type[nn.AvgPool2d] | type[nn.AvgPool3d]
    instance_norm: type[InstanceNorm] | type[InstanceNorm3d]
    batch_norm: type[nn.BatchNorm2d] | type[nn.BatchNorm3d]


IN_PLANE = SpatialLayers(nn.Conv2d, nn.ConvTranspose2d, nn.AvgPool2d, InstanceNorm, nn.BatchNorm2d)
IN_SPACE = SpatialLayers(nn.Conv3d, nn.ConvTranspose3d, nn.AvgPool3d, InstanceNorm3d, nn.BatchNorm3d)


def conv_stage(
    channels_in: int,
    channels_out: int,
    *,
    count: int,
    kernel: PerAxis = 3,
    stride: PerAxis = 1,
    layers: SpatialLayers = IN_PLANE,
) -> nn.Sequential:
    """`count` convolutions with norm and activation; the first has the stride."""
    first = conv_norm_act(channels_in, channels_out, kernel=kernel, stride=stride, layers=layers)
    others = (conv_norm_act(channels_out, channels_out, kernel=kernel, layers=layers) for _ in range(count - 1))
    return nn.Sequential(first, *others)


def conv_norm_act(
    channels_in: int,
    channels_out: int,
    *,
    kernel: PerAxis = 3,
    stride: PerAxis = 1,
    layers: SpatialLayers = IN_PLANE,
) -> nn.Sequential:
    """Convolution, instance normalisation, leaky ReLU."""
    conv: nn.Module = layers.conv(channels_in, channels_out, kernel, stride=stride, padding=half(kernel))  # type: ignore[arg-type]
    return nn.Sequential(conv, layers.instance_norm(channels_out), nn.LeakyReLU(LEAKY_RELU_SLOPE, inplace=True))


def half(kernel: PerAxis) -> PerAxis:
    """The padding with which a kernel of odd sides keeps the size."""
    return kernel // 2 if isinstance(kernel, int) else tuple(side // 2 for side in kernel)


def initialise_kaiming(module: nn.Module) -> None:
    """He's initialisation of convolutions, for leaky ReLU; biases are 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=LEAKY_RELU_SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def decode_with_skips(
    bottleneck: Tensor,
    skips: Sequence[Tensor | None],
    *,
    rise: Callable[[int, Tensor], Tensor],
    merge: nn.ModuleList,
    heads: nn.ModuleList,
) -> list[Tensor]:
    """nnU-Net's decoder: from the bottleneck up, each level joined by its skip; class scores of the finest first.

    Args:
        bottleneck: The deepest map of the encoder.
        skips: Its other maps, finest first; None for a level that none is joined to.
        rise: Brings the map below a level (level, map) to the level's size and width.
        merge: Of each level, for the risen map and, if there is one, the skip side by side.
        heads: Heads of the finest levels; coarser ones have no scores.
    """
    x = bottleneck
    logits: list[Tensor] = []
    for level in reversed(range(len(merge))):
        risen, skip = rise(level, x), skips[level]
        x = merge[level](risen if skip is None else torch.cat([risen, skip], dim=1))
        if level < len(heads):
            logits.insert(0, heads[level](x))
    return logits


def import_optional(module: str, *, extra: str, needed_by: str, hint: str = "") -> Any:
    """A module of an optional package.

    Args:
        module: Its dotted name.
        extra: Name of the extra to install: `pip install 'guidino[extra]'`.
        needed_by: The requested part, for the message.
        hint: Another possible cause, for the message.

    Raises:
        DependencyError: The package, or one that it needs, is missing or cannot be used.
    """
    try:
        return import_module(module)
    # torchvision ends with a RuntimeError where it was built for another torch.
    except (ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        ways = f"pip install 'guidino[{extra}]'{'; ' + hint if hint else ''}"
        raise DependencyError(f"{needed_by} needs {module.split('.')[0]} ({reason}): {ways}") from error


def import_monai_nets(needed_by: str) -> Any:
    """The module `monai.networks.nets`; `DependencyError` without MONAI or einops, which its transformers need."""
    import_optional("einops", extra="monai", needed_by=f"segmenter {needed_by}")
    return import_optional("monai.networks.nets", extra="monai", needed_by=f"segmenter {needed_by}")


_ANY_SIZE: dict[type[nn.Module], Any] = {
    nn.InstanceNorm2d: AnySizeInstanceNorm,
    nn.InstanceNorm3d: AnySizeInstanceNorm3d,
}


def use_any_size_instance_norm(net: nn.Module) -> nn.Module:
    """The same network with fresh instance norms that take single cells; names and values stay."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            kind = _ANY_SIZE.get(type(child))
            if kind is not None:
                setattr(parent, name, kind(child.num_features, eps=child.eps, affine=child.affine))
    return net
