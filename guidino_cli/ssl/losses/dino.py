"""DINO: of one crop of an image, the student says what the teacher says of another."""

import torch
from torch import Tensor


def dino_loss(student: Tensor, targets: Tensor, *, temperature: float, same_views: bool) -> Tensor:
    """Mean cross-entropy of every student's view with every teacher's view of the same image.

    L = -1/(n B) sum over pairs (s, t) and images b of sum_k p_tbk log softmax(s_b / tau)_k, n the number of pairs.
    Caron et al. 2021, equation 3; with Sinkhorn-Knopp targets as in DINOv2 and DINOv3. Uniform students have ln K.

    Args:
        student: (S, B, K) scores of S views.
        targets: (T, B, K) probabilities of T views.
        temperature: tau, 0.1 in all three papers.
        same_views: Student and teacher have the same views (S = T), so that pairs of a view with itself are left out.
    """
    log_shares = torch.log_softmax(student.float() / temperature, dim=-1)
    losses = -torch.einsum("sbk,tbk->st", log_shares, targets.float())
    pairs = losses.numel()
    if same_views:
        losses = losses - losses.diagonal().diag()
        pairs -= losses.shape[0]
    return losses.sum() / (pairs * student.shape[1])
