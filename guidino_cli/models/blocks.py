"""Blocks of nnU-Net's kind, from which several architectures are built."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from guidino_cli.models.layers import CellNorm

SLOPE = 0.01


class InstanceNorm(CellNorm):
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
    return nn.Sequential(conv, InstanceNorm(channels_out), nn.LeakyReLU(SLOPE, inplace=True))


def initialise_he(module: nn.Module) -> None:
    """He's initialisation of convolutions, for leaky ReLU; biases are 0."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def climb(
    features: Sequence[Tensor], *, rise: Callable[[int, Tensor], Tensor], merge: nn.ModuleList, heads: nn.ModuleList
) -> list[Tensor]:
    """nnU-Net's decoder: from the last map up, each level joined by its skip; class scores of the finest first.

    Args:
        features: Maps of the encoder, finest first.
        rise: Brings the map below a level (level, map) to the level's size and width.
        merge: Of each level, for the risen map and the skip side by side.
        heads: Of the finest levels; coarser ones have no scores.
    """
    x = features[-1]
    logits: list[Tensor] = []
    for level in reversed(range(len(merge))):
        x = merge[level](torch.cat([rise(level, x), features[level]], dim=1))
        if level < len(heads):
            logits.insert(0, heads[level](x))
    return logits
