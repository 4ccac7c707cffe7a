"""Soft Dice over a batch, foreground classes only, as nnU-Net trains two-dimensional networks."""

import torch.nn.functional as F
from torch import Tensor

_SMOOTH = 1e-5


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - mean over foreground classes of (2 sum p y + e) / (sum p + sum y + e), sums over batch and pixels, e = 1e-5.

    Args:
        logits: (B, K, H, W).
        mask: (B, H, W) class indices.

    Returns:
        A scalar in [0, 1]; 0 for a class that is absent from both.
    """
    probabilities = logits.float().softmax(dim=1)[:, 1:]
    truth = F.one_hot(mask, logits.shape[1]).movedim(-1, 1)[:, 1:].to(probabilities.dtype)
    axes = (0, 2, 3)
    overlap = (probabilities * truth).sum(axes)
    total = probabilities.sum(axes) + truth.sum(axes)
    return 1 - ((2 * overlap + _SMOOTH) / (total + _SMOOTH)).mean()
