"""Sinkhorn-Knopp: what a teacher says, balanced so that every prototype gets an equal part of the batch."""

import torch
from torch import Tensor

from guidino_cli.ssl.together import largest, summed

_ITERATIONS = 3
# Far enough above the smallest float that sums over a batch may divide it: what falls below that is flushed to zero.
_FLOOR = 1e-30


@torch.no_grad()
def sinkhorn(scores: Tensor, *, temperature: float, iterations: int = _ITERATIONS) -> Tensor:
    """Targets: rows that sum to 1, columns that sum to about B / K, from scores of all processes together.

    Q = exp(s / t), then by turns every column is divided by its sum times K, every row by its sum times B (Caron et al.
    2020, SwAV, section 3.1; in place of centring in DINOv2 and DINOv3).

    Args:
        scores: (B, K) of this process; all processes' rows are balanced together. There may be none.
        temperature: t.
        iterations: 3 in DINOv2 and DINOv3.

    Returns:
        (B, K) probabilities; every row sums to 1.
    """
    logits = scores.float() / temperature
    rows, prototypes = logits.shape
    peak = largest(logits.max() if rows else logits.new_full((), -torch.inf))
    shares = (logits - peak).exp()
    count = summed(torch.tensor(float(rows), device=shares.device))
    # Rows whose best score is far below the highest of all would vanish: no exponential of theirs is above zero.
    shares = shares.clamp(min=_FLOOR)
    shares = shares / summed(shares.sum())
    for _ in range(iterations):
        shares = shares / (summed(shares.sum(dim=0)) * prototypes)
        shares = shares / (shares.sum(dim=1, keepdim=True) * count)
    return shares * count
