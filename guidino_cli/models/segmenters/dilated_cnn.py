"""Dilated convolutions at one resolution (Yu and Koltun 2016), small: it refines what another part already knows."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter

_GROUPS = 4


class DilatedCNN(Segmenter):
    """A convolution, blocks of dilated convolutions of one width, and a 1x1 head; no pooling, hence no decoder.

    A network without pooling sees 2 * sum(dilations) + 3 pixels along each axis, 21 by default, so it needs a guide
    that says what lies further away; `model.reduction` widens its view.

    Args:
        num_classes: K, background included.
        in_channels: C.
        width: Channels of every map, a multiple of 4 (the groups of the normalisation).
        dilations: Spacing of the 3 x 3 cells that each block reads.
    """

    stride = 1

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, width: int = 24, dilations: Sequence[int] = (1, 2, 4, 2)
    ) -> None:
        super().__init__()
        if not dilations or min(dilations) < 1 or width < 1 or width % _GROUPS:
            raise ValueError(
                f"needs dilations >= 1 and a width that is a multiple of {_GROUPS}; found {list(dilations)}, {width}"
            )
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(_block(width, dilation) for dilation in dilations)
        self.head = nn.Conv2d(width, num_classes, 1)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """One map at the image's size."""
        x = torch.relu(self.stem(image))
        for block in self.blocks:
            x = block(x)
        return [x]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at the image's size; no deep supervision."""
        return [self.head(features[0])]


def _block(width: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.GroupNorm(_GROUPS, width), nn.ReLU()
    )
