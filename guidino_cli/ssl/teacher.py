"""A teacher that is the moving average of its student."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def frozen_copy(module: M) -> M:
    """A copy that never learns by itself, in evaluation mode."""
    return copy.deepcopy(module).requires_grad_(False).eval()


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, *, momentum: float) -> None:
    """t <- m t + (1 - m) s for every parameter; buffers become the student's.

    Args:
        teacher: Changed in place; of the student's architecture.
        student: Stays.
        momentum: m; 0 makes the teacher equal to the student, 1 leaves it as it is.
    """
    own: list[Tensor] = list(teacher.parameters())
    others: list[Tensor] = list(student.parameters())
    torch._foreach_lerp_(own, others, 1 - momentum)
    for buffer, other in zip(teacher.buffers(), student.buffers(), strict=True):
        buffer.copy_(other)
