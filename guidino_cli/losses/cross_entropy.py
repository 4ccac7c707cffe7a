"""Cross-entropy of the classes; with two classes it is the binary cross-entropy of the sigmoid of z1 - z0."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean over pixels of -log softmax(logits)[mask]; logits (B, K, H, W), mask (B, H, W)."""
    return F.cross_entropy(logits.float(), mask)
