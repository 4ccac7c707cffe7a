"""MONAI's networks that exist for volumes alone, cut at their bottlenecks: 3-D U-Net and V-Net."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.layers import import_monai_nets, use_any_size_instance_norm

# Channels of V-Net's first maps, to which the image is added.
_VNET_WIDTH = 16


class UNet3d(Segmenter):
    """A light 3-D U-Net (Çiçek et al., 2016) as MONAI builds it: every level but the last halves before it convolves.

    Fast, because nothing is computed at the volume's own size but the last convolution: 1,979,610 parameters with one
    input channel and two classes.

    Args:
        num_classes: K, background included.
        in_channels: C.
        widths: Channels of each level.
        residual_units: Convolutions of each level, around which a shortcut leads; 0 for a single one without.
        dropout: Share of values after each convolution that are zeroed in training.
    """

    dims = 3

    net: Any
    output_layers = ("net.model.2",)

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        residual_units: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths are {list(widths)}, expected two or more")
        self.stride = 2 ** (len(widths) - 1)
        net = import_monai_nets("unet3d").UNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=num_classes,
            channels=tuple(widths),
            strides=(2,) * (len(widths) - 1),
            num_res_units=residual_units,
            dropout=dropout,
        )
        self.net = use_any_size_instance_norm(net)

    def _levels(self) -> tuple[list[tuple[nn.Module, nn.Module]], nn.Module]:
        """Down- and upsampling parts of each level, and the bottleneck; MONAI nests each level in the one above."""
        found, level = [], self.net.model
        for _ in self.net.strides:
            down, skip, up = level
            found.append((down, up))
            level = skip.submodule
        return found, level

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """A map of each level, at 1/2, 1/4, ... of the volume, and the bottom's, as coarse as the last of them."""
        levels, bottom = self._levels()
        features: list[Tensor] = []
        for down, _ in levels:
            features.append(down(features[-1] if features else image))
        return [*features, bottom(features[-1])]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at the volume's size."""
        *skips, x = features
        levels, _ = self._levels()
        for (_, up), skip in zip(reversed(levels), reversed(skips), strict=True):
            x = up(torch.cat([skip, x], dim=1))
        return [x]


class VNet(Segmenter):
    """V-Net (Milletari et al., 2016): residual levels of 5x5x5 convolutions, as MONAI builds it.

    45,597,898 parameters with one input channel and two classes. The image is added to the first 16 maps, so the number
    of channels must divide 16: others are filled up with channels of zeros.

    Args:
        num_classes: K, background included.
        in_channels: C, at most 16.
        dropout: Share of maps of the three deepest levels that are zeroed in training.
    """

    dims = 3
    stride = 16

    net: Any
    output_layers = ("net.out_tr.conv2",)

    def __init__(self, *, num_classes: int, in_channels: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        if in_channels > _VNET_WIDTH:
            raise ValueError(f"adds the image to {_VNET_WIDTH} maps, so it takes at most as many channels")
        self.channels = next(count for count in (1, 2, 4, 8, 16) if count >= in_channels)
        self.net = import_monai_nets("vnet").VNet(
            spatial_dims=3,
            in_channels=self.channels,
            out_channels=num_classes,
            dropout_prob_down=dropout,
            dropout_prob_up=(dropout, dropout),
        )

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Maps at 1, 1/2, 1/4, 1/8 and 1/16 of the volume."""
        net, missing = self.net, self.channels - image.shape[1]
        if missing:
            image = torch.cat([image, image.new_zeros(len(image), missing, *image.shape[2:])], dim=1)
        features = [net.in_tr(image)]
        for down in (net.down_tr32, net.down_tr64, net.down_tr128, net.down_tr256):
            features.append(down(features[-1]))
        return features

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at the volume's size."""
        *skips, x = features
        net = self.net
        for up, skip in zip((net.up_tr256, net.up_tr128, net.up_tr64, net.up_tr32), reversed(skips), strict=True):
            x = up(x, skip)
        return [net.out_tr(x)]
