"""Seg-GuiDINO: a small head on the deepest map of a backbone, its hidden map gated by the guide (GuiDINO, Table 3)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter

_GROUPS = 32


class SegGuiDINO(Segmenter):
    """Sees the image only through a backbone: one convolution, the guide, one convolution, class scores.

    1,475,841 parameters in addition to a ViT-S, with one class; 1,721,985 with a TokenBook of 256 prototypes, as in the
    paper's code. Without a guide it is the same head ungated.

    Args:
        num_classes: K, background included.
        dense_channels: D of the backbone's maps; only the deepest is read.
        width: Channels of the hidden map, a multiple of 32.
        dropout: Probability of a hidden channel to be dropped in training.
    """

    # Any size: the backbone fits its grid to the image, and the logits are resized to it.
    stride = 1
    uses_backbone = True
    reads_image = False
    output_layers = ("refine.4",)

    def __init__(
        self, *, num_classes: int, dense_channels: Sequence[int], width: int = 256, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if width < 1 or width % _GROUPS:
            raise ValueError(f"width is {width}, expected a multiple of {_GROUPS}: the norm has {_GROUPS} groups")
        self.project = nn.Conv2d(dense_channels[-1], width, 3, padding=1)
        self.refine = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(_GROUPS, width),
            nn.GELU(),
            nn.Dropout2d(dropout),
            nn.Conv2d(width, num_classes, 1),
        )

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """One map (B, width, h, w), which the guide gates; `image` is not read."""
        return [self.project(dense[-1])]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size; no deep supervision."""
        logits = self.refine(features[-1])
        return [F.interpolate(logits, size=size_hw, mode="bilinear", align_corners=False)]
