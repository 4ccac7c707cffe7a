"""SegDINO's head: four blocks of a frozen ViT, brought to one size, joined, and read by one linear layer."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter

_TAPS = 4


class SegDINO(Segmenter):
    """Sees the image only through a backbone; without norm or activation it is linear in the backbone's maps.

    2,475,937 parameters in addition to a ViT-S, with one class. The maps are the normed patch tokens of four blocks (3,
    6, 9, 12 of ViT-S and ViT-B, 5, 12, 18, 24 of ViT-L). The shallowest becomes four times as fine by a transposed
    convolution, the others by interpolation.

    Args:
        num_classes: K, background included.
        dense_channels: D of the backbone's four maps, shallow to deep; of one ViT, so all alike.
        projections: Channels of each map after its 1x1 convolution.
        width: Channels of each map in the joined one.
    """

    # Any size: the backbone fits its grid to the image, and the logits are resized to it.
    stride = 1
    uses_backbone = True
    reads_image = False

    def __init__(
        self,
        *,
        num_classes: int,
        dense_channels: Sequence[int],
        projections: Sequence[int] = (96, 192, 384, 768),
        width: int = 128,
    ) -> None:
        super().__init__()
        _require_four_alike(dense_channels)
        if len(projections) != _TAPS:
            raise ValueError(f"projections are {list(projections)}, expected four widths, one for each map")
        self.project = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, width, 3, padding=1, bias=False))
            for channels, hidden in zip(dense_channels, projections, strict=True)
        )
        self.refine = nn.ConvTranspose2d(width, width, 4, stride=4, bias=False)
        self.head = nn.Conv2d(_TAPS * width, num_classes, 1)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Four maps, the first four times as fine as the others; `image` is not read."""
        shallow, *deeper = [project(item) for project, item in zip(self.project, dense, strict=True)]
        return [self.refine(shallow), *deeper]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size; no deep supervision."""
        finest, *coarser = features
        grid = (finest.shape[-2], finest.shape[-1])
        joined = torch.cat([finest, *(_resized(item, grid) for item in coarser)], dim=1)
        return [_resized(self.head(joined), size_hw)]


def _require_four_alike(channels: Sequence[int]) -> None:
    if len(channels) != _TAPS:
        raise ValueError(
            f"reads {_TAPS} blocks of its backbone, found {len(channels)}; "
            "set model.backbone.options.layers=[3,6,9,12] for a ViT of 12 blocks, [5,12,18,24] for one of 24"
        )
    if len(set(channels)) != 1:
        raise ValueError(f"reads blocks of a ViT, all of one width, found widths {list(channels)}; use a ViT backbone")


def _resized(x: Tensor, size_hw: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=size_hw, mode="bilinear", align_corners=True)
