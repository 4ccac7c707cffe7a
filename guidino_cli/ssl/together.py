"""Sums over all processes, where there are several; the same tensor where there is one."""

import torch
from torch import Tensor
from torch.distributed import ReduceOp


def summed(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes; without gradient."""
    return _reduced(tensor, ReduceOp.SUM)


def largest(tensor: Tensor) -> Tensor:
    """The largest of a tensor over all processes, entry by entry; without gradient."""
    return _reduced(tensor, ReduceOp.MAX)


def processes() -> int:
    """How many there are."""
    return torch.distributed.get_world_size() if _are_several() else 1


def _reduced(tensor: Tensor, how: "ReduceOp.RedOpType") -> Tensor:
    if not _are_several():
        return tensor
    tensor = tensor.detach().clone()
    torch.distributed.all_reduce(tensor, how)
    return tensor


def _are_several() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
