"""What pulls the guide towards the ground truth (GuiDINO, equation 3), on the guide's own grid."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Rounding may bring a guide to exactly 0 or 1, where its logit is infinite.
_EPSILON = 1e-6


def guide_cross_entropy(guide: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy of equation 3, in logit form.

    Args:
        guide: (B, G, h, w) in [0, 1].
        target: (B, G, h, w) share of foreground in each cell, in [0, 1].

    Returns:
        The mean over cells. As the cross-entropy is linear in the truth, this is the mean over pixels of equation 3 for
        a guide that is constant over a cell.
    """
    logit = torch.logit(guide.float(), eps=_EPSILON)
    return F.binary_cross_entropy_with_logits(logit, target.float())


def guide_mean_squared_error(guide: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, what the authors' code minimises instead of equation 3 (their target is one pixel a cell)."""
    return F.mse_loss(guide.float(), target.float())
