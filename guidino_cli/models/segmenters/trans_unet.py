"""TransUNet (Chen et al. 2021): a ResNet down to 1/16, a ViT over its cells, and a cascade of convolutions back up."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.layers import InstanceNorm

# Of group and layer norms, all but those of shortcuts.
_EPS = 1e-6


class TransUNet(Segmenter):
    """R50-ViT-B/16: three stages of a ResNet-50 with group norm and weight standardisation (BiT), twelve ViT blocks.

    105,322,001 parameters with one class, for images of 256 px; for others the position embedding is interpolated. The
    authors start ResNet and ViT from ImageNet-21k; here all weights start at random. As in their code, the way up
    aligns the corners of its maps, and the skip at 1/4 lacks its last row and column, which are 0.

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
        dropout: Of the ViT: after both linear layers of its MLPs, and after the position embedding. The authors' has
            none in its attention.
    """

    stride = 16

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
        # 32 at the width of a ResNet-50; a block's narrowest map has as many channels as the stem.
        groups = max(1, width // 2)
        stem = _StandardizedConv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.stem = nn.Sequential(stem, nn.GroupNorm(groups, width, eps=_EPS), nn.ReLU(inplace=True))
        widths = [4 * width, 8 * width, 16 * width]
        self.stages = nn.ModuleList(
            _residual_stage(i, o, count, stride=1 if level == 0 else 2, groups=groups)
            for level, (i, o, count) in enumerate(zip([width, *widths[:-1]], widths, convs, strict=True))
        )
        self.embed = nn.Conv2d(16 * width, hidden_size, 1)
        grid = image_size // self.stride
        self.position = nn.Parameter(nn.init.normal_(torch.empty(1, hidden_size, grid, grid), std=0.02))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(
            *(_vit_block(hidden_size, heads=heads, mlp_size=mlp_size, dropout=dropout) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(hidden_size, eps=_EPS)
        self.bottom = _conv_bn_relu(hidden_size, 8 * width)
        skips = [8 * width, 4 * width, width, 0]
        self.rise = nn.ModuleList(
            nn.Sequential(_conv_bn_relu(i + skip, o), _conv_bn_relu(o, o))
            for (i, o), skip in zip(pairwise([8 * width, *decoder]), skips, strict=True)
        )
        self.head = nn.Conv2d(decoder[-1], num_classes, 3, padding=1)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Maps of the ResNet at 1/2, 1/4 and 1/8 of the image, and the ViT's at 1/16."""
        features = [self.stem(image)]
        x = F.max_pool2d(features[0], 3, stride=2)
        for level, stage in enumerate(self.stages[:-1]):
            x = stage(x)
            h, w = (side // 4 // 2**level for side in image.shape[-2:])
            # Pooling without padding leaves out the last row and column of the first map.
            features.append(F.pad(x, (0, w - x.shape[-1], 0, h - x.shape[-2])))
        return [*features, self._transformed(self.stages[-1](x))]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size; no deep supervision."""
        *skips, x = features
        x = self.bottom(x)
        for rise in self.rise:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
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


class _StandardizedConv2d(nn.Conv2d):
    """A convolution each of whose filters has mean 0 and variance 1 (Qiao et al. 2019, arXiv:1903.10520)."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) * torch.rsqrt(variance + 1e-5)
        return F.conv2d(x, weight, None, self.stride, self.padding)


class _Bottleneck(nn.Module):
    """ResNet's bottleneck, its middle a quarter as wide; the stride is that of the 3x3 convolution."""

    def __init__(self, channels_in: int, channels: int, *, stride: int, groups: int) -> None:
        super().__init__()
        middle = channels // 4
        self.body = nn.Sequential(
            _StandardizedConv2d(channels_in, middle, 1, bias=False),
            nn.GroupNorm(groups, middle, eps=_EPS),
            nn.ReLU(inplace=True),
            _StandardizedConv2d(middle, middle, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(groups, middle, eps=_EPS),
            nn.ReLU(inplace=True),
            _StandardizedConv2d(middle, channels, 1, bias=False),
            nn.GroupNorm(groups, channels, eps=_EPS),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            # The authors' group norm has a group for each channel here.
            conv = _StandardizedConv2d(channels_in, channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, InstanceNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def _residual_stage(channels_in: int, channels: int, count: int, *, stride: int, groups: int) -> nn.Sequential:
    first = _Bottleneck(channels_in, channels, stride=stride, groups=groups)
    others = (_Bottleneck(channels, channels, stride=1, groups=groups) for _ in range(count - 1))
    return nn.Sequential(first, *others)


def _vit_block(channels: int, *, heads: int, mlp_size: int, dropout: float) -> nn.TransformerEncoderLayer:
    block = nn.TransformerEncoderLayer(
        channels, heads, mlp_size, dropout, "gelu", layer_norm_eps=_EPS, batch_first=True, norm_first=True
    )
    # torch would drop weights and output of the attention, too.
    block.self_attn.dropout = block.dropout1.p = 0.0
    return block


def _conv_bn_relu(channels_in: int, channels: int) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
