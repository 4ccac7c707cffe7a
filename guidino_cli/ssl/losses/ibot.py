"""iBOT: of patches that were hidden from it, the student says what the teacher, who sees them, says."""

import torch
from torch import Tensor


def ibot_loss(student: Tensor, targets: Tensor, *, weights: Tensor, views: int, temperature: float) -> Tensor:
    """Cross-entropy over masked patches; each view counts its own mean, views without a mask count as 0.

    L = -1/V sum_m w_m sum_k p_mk log softmax(s_m / tau)_k, w_m = 1 / (masked patches of the view of patch m).
    Zhou et al. 2022, equation 2, in the form of DINOv2's and DINOv3's code. With half of the views masked, a uniform
    student has ln(K) / 2.

    Args:
        student: (M, K) scores of masked patches.
        targets: (M, K) probabilities of the same patches.
        weights: (M,) w.
        views: V, masked or not.
        temperature: tau, 0.1 in the papers.
    """
    log_shares = torch.log_softmax(student.float() / temperature, dim=-1)
    losses = -(targets.float() * log_shares).sum(dim=-1)
    return (losses * weights).sum() / views
