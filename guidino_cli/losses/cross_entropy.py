"""Cross-entropy of the classes; with two classes it is the binary cross-entropy of the sigmoid of z1 - z0."""

import torch
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean over pixels of -log softmax(logits)[mask]; logits (B, K, H, W), mask (B, H, W)."""
    if torch.are_deterministic_algorithms_enabled():
        # On CUDA torch has the loss of a list in a fixed order, that of a picture not.
        return F.cross_entropy(logits.float().movedim(1, -1).flatten(0, 2), mask.flatten())
    return F.cross_entropy(logits.float(), mask)
