"""SAM2-UNet: receptive field blocks on four levels of SAM 2's encoder, and a light U-Net above (Xiong et al. 2024)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter

_LEVELS = 4
# Widths of the kernels of a receptive field block's branches, which are their dilations too.
_KERNELS = (3, 5, 7)


class SAM2UNet(Segmenter):
    """Four levels of a backbone, each brought to one width, then joined from the coarsest to the finest.

    The paper (arXiv:2408.08870) reads SAM 2's Hiera-L, frozen, with an adapter before each block: backbone `sam2`. Any
    other with four levels will do. With one class 2,555,331 parameters in addition to Hiera-L, and 1,714,416 in its
    adapters, 4,269,747 together; a count of 4.381 million has a fourth joining block of 110,848, which nothing would
    read. Gao et al. 2025 (Dino U-Net) report 5.380 million; why is not known.

    All three scores are brought to image size and weigh alike in the loss, as in the paper. Coarser maps are joined to
    finer ones with aligned corners, as in the authors' code; the scores are enlarged without.

    Args:
        num_classes: K, background included.
        dense_channels: D of the backbone's four maps, fine to coarse.
        width: Channels that all levels are brought to.
        deep_supervision: Whether the two coarser scores exist.
    """

    # Any size: the backbone fits its grid to the image, and the logits are resized to it.
    stride = 1
    uses_backbone = True
    reads_image = False
    level_weights = (1.0, 1.0, 1.0)
    output_layers = ("heads",)

    def __init__(
        self, *, num_classes: int, dense_channels: Sequence[int], width: int = 64, deep_supervision: bool = True
    ) -> None:
        super().__init__()
        if len(dense_channels) != _LEVELS:
            raise ValueError(
                f"reads {_LEVELS} levels of its backbone, found {len(dense_channels)}; use backbone sam2, or set "
                "model.backbone.options.layers, such as [3,6,9,12] for a ViT of 12 blocks"
            )
        self.reduce = nn.ModuleList(ReceptiveFieldBlock(channels, width) for channels in dense_channels)
        self.join = nn.ModuleList(_joining(width) for _ in range(_LEVELS - 1))
        heads = _LEVELS - 1 if deep_supervision else 1
        self.heads = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for _ in range(heads))

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Four maps of one width, on the grids of the backbone's; `image` is not read."""
        return [reduce(item) for reduce, item in zip(self.reduce, dense, strict=True)]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores of the finest level and of the two above it, all at image size."""
        x, joined = features[-1], list[Tensor]()
        for join, finer in zip(self.join, reversed(features[:-1]), strict=True):
            x = F.interpolate(x, size=finer.shape[-2:], mode="bilinear", align_corners=True)
            x = join(torch.cat([finer, x], dim=1))
            joined.insert(0, x)
        scores = [head(item) for head, item in zip(self.heads, joined, strict=False)]
        return [F.interpolate(item, size=size_hw, mode="bilinear", align_corners=False) for item in scores]


class ReceptiveFieldBlock(nn.Module):
    """Four views of a map, of one cell and of ever wider crosses and rings, joined and added to the map itself.

    After Liu et al., ECCV 2018, as camouflaged and salient object detection use it: batch norm after every
    convolution, no activation but the last.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.near = _conv(channels_in, channels, (1, 1))
        self.far = nn.ModuleList(
            nn.Sequential(
                _conv(channels_in, channels, (1, 1)),
                _conv(channels, channels, (1, kernel)),
                _conv(channels, channels, (kernel, 1)),
                _conv(channels, channels, (3, 3), dilation=kernel),
            )
            for kernel in _KERNELS
        )
        self.join = _conv((1 + len(_KERNELS)) * channels, channels, (3, 3))
        self.shortcut = _conv(channels_in, channels, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, h, w) to (B, width, h, w)."""
        views = torch.cat([self.near(x), *(branch(x) for branch in self.far)], dim=1)
        return F.relu(self.join(views) + self.shortcut(x))


def _conv(channels_in: int, channels_out: int, kernel: tuple[int, int], *, dilation: int = 1) -> nn.Sequential:
    down, across = (dilation * (side // 2) for side in kernel)
    conv = nn.Conv2d(channels_in, channels_out, kernel, padding=(down, across), dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out))


def _joining(width: int) -> nn.Sequential:
    first, second = _conv(2 * width, width, (3, 3)), _conv(width, width, (3, 3))
    return nn.Sequential(*first, nn.ReLU(inplace=True), *second, nn.ReLU(inplace=True))
