"""MONAI's transformers with a convolutional decoder, cut at their bottlenecks: UNETR and Swin UNETR."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.models.base import Segmenter
from guidino_cli.models.grids import strides_by_axis
from guidino_cli.models.layers import import_monai_nets, use_any_size_instance_norm

_PATCH = 16
# Blocks of the ViT, counted from 0, whose tokens become the skips at 1/2, 1/4 and 1/8.
_TAPS = (3, 6, 9)


class UNETR(Segmenter):
    """UNETR (Hatamizadeh et al., WACV 2022) in two dimensions: a ViT/16 as encoder, four of its depths as skips.

    MONAI's network: 87.727 million parameters at 256 px. The position embeddings belong to images of `image_size`; on
    others they are interpolated (bicubic), so any size will do. The paper trains from random weights, as is done here.

    Args:
        num_classes: K, background included.
        in_channels: C.
        image_size: Side of the images whose patches have a position embedding each, a multiple of 16: best
            `data.image_size`.
        width: Channels at image size; doubled at each coarser level.
        hidden_size: Channels of a token.
        mlp_size: Channels within the blocks.
        heads: Attention heads.
        dropout: Share of values in the ViT that are zeroed in training.
    """

    stride = _PATCH

    net: Any
    output_layers = ("net.out",)

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        image_size: int | Sequence[int] = 256,
        width: int = 16,
        hidden_size: int = 768,
        mlp_size: int = 3072,
        heads: int = 12,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        size = strides_by_axis(image_size, self.dims)
        if any(side % _PATCH or side < _PATCH for side in size):
            raise ValueError(f"image_size is {image_size}, expected a multiple of {_PATCH}")
        net = import_monai_nets("unetr").UNETR(
            in_channels=in_channels,
            out_channels=num_classes,
            img_size=size,
            feature_size=width,
            hidden_size=hidden_size,
            mlp_dim=mlp_size,
            num_heads=heads,
            dropout_rate=dropout,
            spatial_dims=self.dims,
        )
        self.net = use_any_size_instance_norm(net)
        # MONAI's blocks hold a norm for attention to other tokens, which UNETR does not have.
        for name, weight in self.net.named_parameters():
            weight.requires_grad_("cross_attn" not in name)
        self.grid = tuple(side // _PATCH for side in size)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Maps at 1, 1/2, 1/4 and 1/8 of the image, and the ViT's last tokens at 1/16."""
        net = self.net
        patches = net.vit.patch_embedding.patch_embeddings(image)
        size = tuple(patches.shape[2:])
        tokens = net.vit.patch_embedding.dropout(_as_tokens(patches) + self._positions(size))
        taps = []
        for depth, block in enumerate(net.vit.blocks):
            tokens = block(tokens)
            if depth in _TAPS:
                taps.append(_as_map(tokens, size))
        skips = [up(tap) for up, tap in zip((net.encoder2, net.encoder3, net.encoder4), taps, strict=True)]
        return [net.encoder1(image), *skips, _as_map(net.vit.norm(tokens), size)]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size."""
        *skips, x = features
        ups = (self.net.decoder5, self.net.decoder4, self.net.decoder3, self.net.decoder2)
        for up, skip in zip(ups, reversed(skips), strict=True):
            x = up(x, skip)
        return [self.net.out(x)]

    def _positions(self, size: tuple[int, ...]) -> Tensor:
        table: Tensor = self.net.vit.patch_embedding.position_embeddings
        if size == self.grid:
            return table
        # torch has no bicubic interpolation in three dimensions.
        mode = "bicubic" if self.dims == 2 else "trilinear"
        return _as_tokens(F.interpolate(_as_map(table, self.grid), size=size, mode=mode))


class UNETR3d(UNETR):
    """UNETR for volumes, for which it was made: patches of 16 x 16 x 16 voxels.

    MONAI's network: 92.784 million parameters at 96 voxels with one channel and two classes. On other sizes than
    `image_size` the position embeddings are interpolated (trilinear).

    Args:
        num_classes: K, background included.
        in_channels: C.
        image_size: Side of the patches of volumes whose cells have a position embedding each, or one for each axis,
            multiples of 16: best `data.patch_size`.
        width: Channels at the volume's size; doubled at each coarser level.
        hidden_size: Channels of a token.
        mlp_size: Channels within the blocks.
        heads: Attention heads.
        dropout: Share of values in the ViT that are zeroed in training.
    """

    dims = 3

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        image_size: int | Sequence[int] = 96,
        width: int = 16,
        hidden_size: int = 768,
        mlp_size: int = 3072,
        heads: int = 12,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            in_channels=in_channels,
            image_size=image_size,
            width=width,
            hidden_size=hidden_size,
            mlp_size=mlp_size,
            heads=heads,
            dropout=dropout,
        )


class SwinUNETR(Segmenter):
    """Swin UNETR (Hatamizadeh et al., 2022) in two dimensions: a Swin transformer as encoder, skips through residual
    blocks.

    MONAI's network: 25.139 million parameters at width 48. Windows are padded to their size, so any image size will
    do that is a multiple of the stride of 32. The authors' weights from self-supervised learning are of volumes; here
    all weights start at random.

    Args:
        num_classes: K, background included.
        in_channels: C.
        width: Channels at image size and of the first tokens, a multiple of 12; doubled at each coarser level.
        depths: Blocks of each of the four stages.
        heads: Attention heads of each stage.
        window: Side of a window in tokens.
        drop_path: Share of samples that skip the last block in training; less for the blocks before it.
    """

    stride = 32

    net: Any
    output_layers = ("net.out",)

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if len(depths) != 4 or len(heads) != 4:
            raise ValueError(f"depths {list(depths)} and heads {list(heads)}, expected four of each")
        nets = import_monai_nets("swin-unetr")
        # MONAI reads the shares of dropped paths off a tensor, which one without values does not allow.
        with torch.device("cpu"):
            net = nets.SwinUNETR(
                in_channels=in_channels,
                out_channels=num_classes,
                feature_size=width,
                depths=tuple(depths),
                num_heads=tuple(heads),
                window_size=window,
                dropout_path_rate=drop_path,
                spatial_dims=self.dims,
            )
        self.net = use_any_size_instance_norm(net).to(torch.get_default_device())

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Maps at 1, 1/2, 1/4, 1/8, 1/16 and 1/32 of the image."""
        net = self.net
        half, quarter, eighth, sixteenth, deepest = net.swinViT(image, net.normalize)
        fine = [net.encoder1(image), net.encoder2(half), net.encoder3(quarter), net.encoder4(eighth)]
        return [*fine, sixteenth, net.encoder10(deepest)]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size."""
        *skips, x = features
        net = self.net
        ups = (net.decoder5, net.decoder4, net.decoder3, net.decoder2, net.decoder1)
        for up, skip in zip(ups, reversed(skips), strict=True):
            x = up(x, skip)
        return [net.out(x)]


class SwinUNETR3d(SwinUNETR):
    """Swin UNETR for volumes, for which it was made.

    MONAI's network: 62.187 million parameters at width 48 with one channel and two classes. Windows are 7 x 7 x 7
    tokens. All weights start at random; those of the authors' self-supervised learning are not read.
    """

    dims = 3


def _as_tokens(maps: Tensor) -> Tensor:
    """(B, D, h, w) as (B, h w, D), of any number of axes of space."""
    return maps.flatten(2).transpose(1, 2)


def _as_map(tokens: Tensor, size: tuple[int, ...]) -> Tensor:
    """(B, h w, D) as (B, D, h, w)."""
    return tokens.transpose(1, 2).unflatten(2, size)
