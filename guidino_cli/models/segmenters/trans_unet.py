"""TransUNet (Chen et al. 2021): a ResNet down to 1/16, a ViT over its cells, and a cascade of convolutions back up."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter


class TransUNet(Segmenter):
    """R50-ViT-B/16: three stages of a ResNet-50 with group norm and weight standardisation (BiT), twelve ViT blocks.

    105,322,001 parameters with one class, for images of 256 px; for others the position embedding is interpolated. The
    authors start ResNet and ViT from ImageNet-21k; here all weights start at random.

    Args:
        num_classes: K, background included.
        in_channels: C.
        width: Channels of the ResNet's stem; its stages have 4, 8 and 16 times as many.
        convs: Residual blocks of the stages at 1/4, 1/8 and 1/16.
        hidden_size: Channels of the ViT.
        depth: Its blocks.
        heads: Its attention heads.
        mlp_size: Hidden channels of its MLPs.
        decoder: Channels of the way up, at 1/8, 1/4, 1/2 and 1.
        image_size: Side of the images for which the position embedding is made.
        dropout: Of the ViT, as in Dosovitskiy et al.: after every linear layer but queries, keys and values, and
            after the position embedding.
    """

    stride = 16
    resnet: Any

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        convs: Sequence[int] = (3, 4, 9),
        hidden_size: int = 768,
        depth: int = 12,
        heads: int = 12,
        mlp_size: int = 3072,
        decoder: Sequence[int] = (256, 128, 64, 16),
        image_size: int = 256,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if len(convs) != 3 or len(decoder) != 4:
            raise ValueError(f"convs {list(convs)} and decoder {list(decoder)}, expected three and four")
        if hidden_size % heads:
            raise ValueError(f"hidden_size is {hidden_size}, expected a multiple of the {heads} heads")
        if image_size < self.stride:
            raise ValueError(f"image_size is {image_size}, expected {self.stride} or more")
        self.resnet = _resnet(in_channels, width, convs)
        self.embed = nn.Conv2d(16 * width, hidden_size, 1)
        grid = image_size // self.stride
        self.position = nn.Parameter(nn.init.normal_(torch.empty(1, hidden_size, grid, grid), std=0.02))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(
            *(_vit_block(hidden_size, heads=heads, mlp_size=mlp_size, dropout=dropout) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(hidden_size, eps=1e-6)
        self.bottom = _conv_bn_relu(hidden_size, 8 * width)
        skips = [8 * width, 4 * width, width, 0]
        self.rise = nn.ModuleList(
            nn.Sequential(_conv_bn_relu(i + skip, o), _conv_bn_relu(o, o))
            for (i, o), skip in zip(pairwise([8 * width, *decoder]), skips, strict=True)
        )
        self.head = nn.Conv2d(decoder[-1], num_classes, 3, padding=1)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Maps of the ResNet at 1/2, 1/4 and 1/8 of the image, and the ViT's at 1/16."""
        embedder = self.resnet.embedder
        features = [embedder.norm(embedder.convolution(image))]
        x = embedder.pooler(features[0])
        for stage in self.resnet.encoder.stages:
            x = stage(x)
            features.append(x)
        return [*features[:-1], self._transformed(features[-1])]

    def decode(self, features: list[Tensor], size_hw: tuple[int, int]) -> list[Tensor]:
        """Class scores at image size; no deep supervision."""
        *skips, x = features
        x = self.bottom(x)
        for rise in self.rise:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = rise(torch.cat([x, skips.pop()], dim=1) if skips else x)
        return [self.head(x)]

    def _transformed(self, x: Tensor) -> Tensor:
        """A patch of the ViT is one cell of the ResNet's map."""
        h, w = x.shape[-2:]
        position: Tensor = self.position
        if position.shape[-2:] != (h, w):
            position = F.interpolate(position, size=(h, w), mode="bicubic", align_corners=False)
        tokens = self.dropout(self.embed(x) + position).flatten(2).transpose(1, 2)
        return self.norm(self.blocks(tokens)).transpose(1, 2).unflatten(2, (h, w))


def _resnet(in_channels: int, width: int, convs: Sequence[int]) -> nn.Module:
    # Its class is looked at by commands that never make it.
    from transformers import BitConfig, BitModel

    config = BitConfig(
        num_channels=in_channels,
        embedding_size=width,
        hidden_sizes=[4 * width, 8 * width, 16 * width],
        depths=list(convs),
        # 32 at the width of a ResNet-50; a block's narrowest map has as many channels as the stem.
        num_groups=max(1, width // 2),
        # As in the hybrid ViTs: activation after the sum, 'same' padding at every stride.
        layer_type="bottleneck",
        global_padding="SAME",
        embedding_dynamic_padding=True,
    )
    return BitModel(config)


def _vit_block(channels: int, *, heads: int, mlp_size: int, dropout: float) -> nn.TransformerEncoderLayer:
    block = nn.TransformerEncoderLayer(
        channels, heads, mlp_size, dropout, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    # torch would drop attention weights, too.
    block.self_attn.dropout = 0.0
    return block


def _conv_bn_relu(channels_in: int, channels: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
