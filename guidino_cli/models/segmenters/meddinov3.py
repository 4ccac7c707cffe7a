"""MedDINOv3's decoder (Li et al. 2025, after Primus): a ViT's blocks joined, and doubled four times in size."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.layers import LayerNorm2d, initialise_kaiming

_STEPS = 4


class MedDINOv3(Segmenter):
    """Sees the image only through a backbone: no skip, no norm over pixels, no convolution wider than its stride.

    With 16 classes, on blocks 3, 6, 9 and 12, 25,079,248 parameters in addition to a ViT-B (6.3 million to a ViT-S,
    44.6 to a ViT-L, there blocks 5, 12, 18 and 24). On one block it is the paper's ablation without multi-scale
    features, Primus' decoder: 1,569,664 parameters with a ViT-B. The paper trains the backbone too (`model.finetune`),
    from weights that it made of DINOv3 with 3.9 million slices of CT; the authors' trainers never rescale the ViT's
    position codes at random and give its layer norms an epsilon of 1e-6.

    Args:
        num_classes: K, background included.
        dense_channels: D of the backbone's maps, shallow to deep; of one ViT, so all alike.
    """

    # Any size: the backbone fits its grid to the image, and the logits are resized to it.
    stride = 1
    uses_backbone = True
    reads_image = False

    def __init__(self, *, num_classes: int, dense_channels: Sequence[int]) -> None:
        super().__init__()
        joined = _joined_channels(dense_channels)
        widths = [joined >> step for step in range(_STEPS + 1)]
        self.upsample = nn.Sequential(*(_doubled(wide, narrow) for wide, narrow in pairwise(widths)))
        self.head = nn.Conv2d(widths[-1], num_classes, 1)
        self.apply(initialise_kaiming)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """One map, the blocks' tokens side by side, which the guide gates; `image` is not read."""
        return [torch.cat(dense, dim=1)]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size; no deep supervision."""
        logits = self.head(self.upsample(features[-1]))
        if logits.shape[-2:] == size_hw:
            return [logits]
        return [F.interpolate(logits, size=size_hw, mode="bilinear", align_corners=False)]


def _doubled(channels_in: int, channels_out: int) -> nn.Sequential:
    """Each cell becomes 2 x 2."""
    grow = nn.ConvTranspose2d(channels_in, channels_out, 2, stride=2)
    return nn.Sequential(grow, LayerNorm2d(channels_out, eps=1e-6), nn.GELU())


def _joined_channels(channels: Sequence[int]) -> int:
    if len(set(channels)) != 1:
        raise ValueError(f"reads blocks of a ViT, all of one width, found widths {list(channels)}; use a ViT backbone")
    joined = sum(channels)
    if joined % 2**_STEPS:
        raise ValueError(f"the backbone's maps have {joined} channels together, expected a multiple of {2**_STEPS}")
    return joined
