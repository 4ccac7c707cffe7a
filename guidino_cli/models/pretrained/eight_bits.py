"""Weights in eight bits a number: a quarter of the room, each within 1/254 of the largest number of its row."""

from collections.abc import Mapping

import torch
from torch import Tensor

_SCALE = ".scale"


def packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices, kernels and tables as int8 with a scale for each row; what has one row only in half precision.

    Rows are along the first axis that is longer than 1. A row w becomes round(w / s) with s = max |w| / 127, so that an
    error is at most s / 2.
    """
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        axis = next((axis for axis, size in enumerate(tensor.shape) if size > 1), tensor.ndim)
        if axis >= tensor.ndim - 1:
            out[name] = tensor.detach().half().contiguous()
            continue
        rows = tensor.detach().float().flatten(0, axis).flatten(1)
        scale = (rows.abs().amax(dim=1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        out[name] = (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape)
        out[name + _SCALE] = scale
    return out


def unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `packed` packed, in single precision."""
    return {
        name: _whole(tensor, tensors[name + _SCALE]) if tensor.dtype == torch.int8 else tensor.float()
        for name, tensor in tensors.items()
        if not name.endswith(_SCALE)
    }


def _whole(tensor: Tensor, scale: Tensor) -> Tensor:
    return (tensor.float().view(len(scale), -1) * scale[:, None]).view(tensor.shape)
