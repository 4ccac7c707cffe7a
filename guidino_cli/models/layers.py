"""Small layers that networks of several kinds share: norms of single cells and of channels, and stochastic depth."""

import torch
from torch import Tensor, nn


class CellNorm(nn.InstanceNorm2d):
    """Instance normalisation that also takes a single cell, whose normalised value is 0.

    torch refuses that, but the deepest map of an image no larger than the stride is a single cell.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (1, 1):
            return super().forward(x)
        zeros = x - x
        return zeros if not self.affine else zeros * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each cell of a map (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training, zero for a share of the samples, the others scaled up.

    Args:
        share: Probability, at least 0 and below 1, that a sample goes without.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"drop_path is {share}, expected at least 0 and below 1")
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Any shape whose first axis is the batch."""
        if not self.training or self.share == 0:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.share
        return x * kept.to(x.dtype) / (1 - self.share)

    def extra_repr(self) -> str:
        return f"share={self.share}"
