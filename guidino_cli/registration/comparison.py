"""How unlike two feature maps are at many displacement fields, one after the other, as an optimiser asks."""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import accumulate
from operator import mul
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.registration.fields import pixel_indices, sample

_VOLUMES = 5
"""Dimensions of features of volumes; those of images torch samples fast by itself."""


def make_comparison(fixed: Tensor, moving: Tensor) -> Callable[[Tensor], Tensor]:
    """The mean squared difference between fixed features and moving ones that a field displaces, by the field.

    It is that of `fields.sample` but for rounding. On a CPU, features of volumes are read channels-last, which takes
    less than half the time.

    Args:
        fixed: (1, C, *S).
        moving: Of the same shape; without gradients.

    Returns:
        Takes a field (1, n, *S) and returns a number, whose gradient reaches the field.
    """
    if moving.device.type != "cpu" or moving.dim() != _VOLUMES:
        return lambda field: F.mse_loss(sample(moving, field), fixed)
    target, source = (features[0].flatten(1).T.contiguous() for features in (fixed, moving))
    return lambda field: F.mse_loss(_SampleRows.apply(source, moving.shape[2:], field), target)


class _SampleRows(torch.autograd.Function):
    """Linear interpolation as weighted sums of rows (N, C), the pixels of an image (*S, C); zeros beyond it.

    In the derivative along an axis, the weights along that axis are -1 and 1.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, shape: Sequence[int], field: Tensor) -> Tensor:
        """Values (M, C) at the M places of a field (1, n, *T)."""
        strides = list(accumulate(reversed(shape), mul, initial=1))[-2::-1]
        weights, insides, numbers = [], [], []
        places = torch.stack(pixel_indices(field.shape[2:], field.device)) + field[0]
        for place, size, stride in zip(places.flatten(1), shape, strides, strict=True):
            # There and back as in `fields.sample` and torch.nn.functional.grid_sample: where places are whole numbers,
            # rounding decides which of two slopes counts.
            place = (((2 * place + 1) / size - 1 + 1) * size - 1) / 2
            low = place.floor()
            part = place - low
            # Far beyond the image, a place has no whole number of 32 bits.
            first = low.clamp(-2, size).int()
            pair = torch.stack([first, first + 1])
            inside = ((pair >= 0) & (pair < size)).to(rows.dtype)
            insides.append(inside)
            weights.append(torch.stack([1 - part, part]) * inside)
            numbers.append(pair.clamp(0, size - 1) * stride)
        corners = _combine(numbers, torch.add)
        ctx.save_for_backward(rows, corners, *weights, *insides)
        ctx.size = field.shape
        return F.embedding_bag(corners, rows, per_sample_weights=_combine(weights, torch.mul), mode="sum")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        """The gradient with respect to the field."""
        rows, corners, *parts = ctx.saved_tensors
        weights, insides = parts[: len(parts) // 2], parts[len(parts) // 2 :]
        slopes = rows.new_tensor([[-1.0], [1.0]])
        found = []
        for axis, inside in enumerate(insides):
            along = [inside * slopes if number == axis else weight for number, weight in enumerate(weights)]
            change = F.embedding_bag(corners, rows, per_sample_weights=_combine(along, torch.mul), mode="sum")
            found.append((change * gradients[0]).sum(dim=1))
        return None, None, torch.stack(found).view(ctx.size)


def _combine(pairs: Sequence[Tensor], operation: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """One number for each of the 2**n corners around a place, (M, 2**n), of a pair (2, M) for each axis."""
    corners = reduce(lambda found, pair: operation(found[:, None], pair).flatten(0, 1), pairs)
    return corners.T.contiguous()
