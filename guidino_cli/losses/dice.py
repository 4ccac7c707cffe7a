"""Soft Dice over a batch, foreground classes only, as nnU-Net trains two-dimensional networks."""

from typing import Any

import torch
from torch import Tensor, distributed

_SMOOTH = 1e-5


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - mean over foreground classes of (2 sum p y + e) / (sum p + sum y + e), sums over batch and pixels, e = 1e-5.

    Where several processes share a training step, the batch is that of all of them, as in nnU-Net.

    Args:
        logits: (B, K, H, W).
        mask: (B, H, W) class indices.

    Returns:
        A scalar in [0, 1]; 0 for a class that is absent from both.
    """
    probabilities = logits.float().softmax(dim=1)[:, 1:]
    # Not `F.one_hot`, which looks at every index on the CPU and makes integers of eight bytes on the way.
    classes = torch.arange(1, logits.shape[1], device=mask.device).view(-1, 1, 1)
    truth = (mask[:, None] == classes).to(probabilities.dtype)
    axes = (0, 2, 3)
    sums = torch.stack([(probabilities * truth).sum(axes), probabilities.sum(axes) + truth.sum(axes)])
    overlap, total = _of_all_processes(sums)
    return 1 - ((2 * overlap + _SMOOTH) / (total + _SMOOTH)).mean()


def _of_all_processes(sums: Tensor) -> Tensor:
    is_shared = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    if not is_shared or not sums.requires_grad:
        return sums
    result: Tensor = _SumOverProcesses.apply(sums)
    return result


class _SumOverProcesses(torch.autograd.Function):
    """Sums over every process's part of a batch; gradients are summed too, as DDP will average them."""

    @staticmethod
    def forward(_: Any, sums: Tensor) -> Tensor:
        return _summed(sums)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(values: Tensor) -> Tensor:
    values = values.contiguous().clone()
    distributed.all_reduce(values)
    return values
