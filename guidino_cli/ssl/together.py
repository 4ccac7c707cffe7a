"""What all processes have together, where there are several; what this one has where there is one."""

import torch
from torch import Tensor
from torch.distributed import ReduceOp


def summed(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes; without gradient."""
    return _reduced(tensor, ReduceOp.SUM)


def largest(tensor: Tensor) -> Tensor:
    """The largest of a tensor over all processes, entry by entry; without gradient."""
    return _reduced(tensor, ReduceOp.MAX)


def gathered(rows: Tensor) -> list[Tensor]:
    """The rows (N, ...) of every process, in the order of their numbers; N is the same everywhere; without gradient."""
    if not _are_several():
        return [rows.detach()]
    rows = rows.detach().contiguous()
    everyone = [torch.empty_like(rows) for _ in range(processes())]
    torch.distributed.all_gather(everyone, rows)
    return everyone


def processes() -> int:
    """How many there are."""
    return torch.distributed.get_world_size() if _are_several() else 1


def process() -> int:
    """The number of this one, from 0."""
    return torch.distributed.get_rank() if _are_several() else 0


def _reduced(tensor: Tensor, how: "ReduceOp.RedOpType") -> Tensor:
    if not _are_several():
        return tensor
    tensor = tensor.detach().clone()
    torch.distributed.all_reduce(tensor, how)
    return tensor


def _are_several() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
