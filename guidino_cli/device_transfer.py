"""Differences between devices: asynchronous copies, and double precision, which Apple's lack."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device, unchanged if it is there already.

    A copy to a GPU is queued like any other work, and the program goes on, only if the memory is pinned and the copy
    is asked not to wait (https://docs.pytorch.org/tutorials/intermediate/pinmem_nonblock.html). Pinned memory is kept
    by torch until the copy is done.
    """
    if device.type != "cuda" or tensor.device.type != "cpu" or torch.compiler.is_compiling():
        return tensor.to(device)
    pinned = tensor if tensor.is_pinned() else tensor.pin_memory()
    return pinned.to(device, non_blocking=True)


def to_double(tensor: Tensor) -> Tensor:
    """The tensor in float64: where it is, or in main memory if its device has no such numbers."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def sum_dtype(device: torch.device) -> torch.dtype:
    """The most precise type in which a device adds."""
    return torch.float32 if device.type == "mps" else torch.float64
