"""Layers and blocks shared by several segmenters, and the import of optional libraries."""

from collections.abc import Callable, Sequence
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
        if x.shape[-2:] != (1, 1):
            return super().forward(x)
        zeros = x - x
        return zeros if not self.affine else zeros * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


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


def conv_stage(channels_in: int, channels_out: int, *, count: int, stride: int = 1) -> nn.Sequential:
    """`count` 3x3 convolutions with norm and activation; the first has the stride."""
    first = conv_norm_act(channels_in, channels_out, stride=stride)
    return nn.Sequential(first, *(conv_norm_act(channels_out, channels_out) for _ in range(count - 1)))


def conv_norm_act(channels_in: int, channels_out: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, instance normalisation, leaky ReLU."""
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2)
    return nn.Sequential(conv, InstanceNorm(channels_out), nn.LeakyReLU(LEAKY_RELU_SLOPE, inplace=True))


def initialise_kaiming(module: nn.Module) -> None:
    """He's initialisation of convolutions, for leaky ReLU; biases are 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
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
        heads: Of the finest levels; coarser ones have no scores.
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


def use_any_size_instance_norm(net: nn.Module) -> nn.Module:
    """The same network with each fresh instance normalisation replaced by a `CellNorm`: names and values stay."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.InstanceNorm2d:
                setattr(parent, name, AnySizeInstanceNorm(child.num_features, eps=child.eps, affine=child.affine))
    return net
