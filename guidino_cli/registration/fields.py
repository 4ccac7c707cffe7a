"""Displacement fields of two or three dimensions: sampling at displaced places, smoothing, and Jacobians.

A field u (B, n, *S) is in pixels of its own grid, along the n axes of the array in their order. It points from the
fixed image to the moving one: what is seen at x in the fixed image lies at x + u(x) in the moving one.
"""

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.device_transfer import to_device

_AVERAGE = {2: F.avg_pool2d, 3: F.avg_pool3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}


def smooth_box(values: Tensor, *, times: int = 1, side: int = 3) -> Tensor:
    """Mean over a box of `side` cells (odd) of (B, C, *S), `times` in a row; beyond the border are zeros."""
    average, margin = _AVERAGE[values.dim() - 2], side // 2
    # avg_pool3d refuses axes shorter than its kernel, whatever the padding.
    is_short = min(values.shape[2:]) < side
    for _ in range(times):
        if is_short:
            values = average(F.pad(values, [margin] * (2 * (values.dim() - 2))), side, stride=1)
        else:
            values = average(values, side, stride=1, padding=margin)
    return values


def box_matrices(size: Sequence[int], *, times: int, like: Tensor) -> list[Tensor]:
    """What `smooth_box` with a side of 3 does along each axis, `times` in a row, as a matrix of so many cells."""
    matrices = []
    for length in size:
        near = torch.ones(length, length, dtype=torch.float64).tril(1).triu(-1) / 3
        matrices.append(to_device(torch.linalg.matrix_power(near, times).to(like.dtype), like.device))
    return matrices


def smooth_by_matrices(values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """`smooth_box` of (B, C, *S), axis by axis: a mean over a box is one along each axis in turn.

    Forwards and backwards several times as fast as pooling, which matters where it is done in every step.
    """
    for axis, matrix in enumerate(matrices[:-1], start=2):
        values = (matrix @ values.flatten(axis + 1)).view_as(values)
    # Along the last axis as one product of all rows; the matrices are symmetric.
    return values @ matrices[-1]


def average_cells(values: Tensor, cell: Sequence[int]) -> Tensor:
    """Mean over cells of so many pixels along each axis of (B, C, *S), whose sides are multiples of them."""
    return _AVERAGE[values.dim() - 2](values, tuple(cell), stride=tuple(cell))


def resize_linear(values: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate (B, C, *S) linearly on another grid that covers the same extent; values are not scaled."""
    return F.interpolate(values, size=tuple(size), mode=_LINEAR[values.dim() - 2], align_corners=False)


def pad_to_multiples(values: Tensor, multiples: Sequence[int]) -> Tensor:
    """(B, C, *S) continued by the last pixels, until the sides are multiples of these numbers."""
    missing = [ceil(size / step) * step - size for size, step in zip(values.shape[2:], multiples, strict=True)]
    margins = [margin for size in reversed(missing) for margin in (0, size)]
    return F.pad(values, margins, mode="replicate") if any(margins) else values


def crop_to(values: Tensor, size: Sequence[int]) -> Tensor:
    """The first pixels of (B, C, *S) along each axis: what `pad_to_multiples` continued."""
    return values[(slice(None), slice(None), *(slice(length) for length in size))]


def per_axis(numbers: Sequence[float], like: Tensor) -> Tensor:
    """One number for each axis, to be multiplied with a field."""
    return to_device(torch.tensor(numbers, dtype=like.dtype), like.device).view(1, -1, *[1] * len(numbers))


def measure_roughness(field: Tensor, sides: Sequence[float]) -> Tensor:
    """Mean squared slopes of a field (B, n, *S) along its axes, summed over the axes; 0 along one of a single cell.

    Args:
        field: In cells.
        sides: Of a cell, relative to its shortest one.
    """
    total = field.new_zeros(())
    lengths = field * per_axis(sides, field)
    for axis, side in enumerate(sides):
        if field.shape[2 + axis] == 1:
            continue
        total = total + (lengths.diff(dim=2 + axis) / side).square().mean()
    return total


def integrate_velocity(velocity: Tensor, steps: int) -> Tensor:
    """The field after unit time of a velocity (B, n, *S) that stays the same, by scaling and squaring.

    Dalca et al. (2018), Unsupervised learning for fast probabilistic diffeomorphic registration: the velocity over
    2**steps is a displacement so small that it folds nothing, and is applied to itself `steps` times.
    """
    field = velocity / 2**steps
    for _ in range(steps):
        field = field + sample(field, field, outside="border")
    return field


def sample(values: Tensor, field: Tensor, *, outside: str = "zeros") -> Tensor:
    """Linear interpolation of (B, C, *S) at x + u(x); `outside` of the image as `torch.nn.functional.grid_sample`."""
    shape = field.shape[2:]
    places = torch.stack(pixel_indices(shape, field.device)) + field
    sizes = to_device(torch.tensor(values.shape[2:], dtype=field.dtype), field.device).view(1, -1, *[1] * len(shape))
    # The outer edges of the image are -1 and 1; the last axis comes first.
    relative = ((2 * places + 1) / sizes - 1).flip(1).movedim(1, -1)
    return F.grid_sample(values, relative, mode="bilinear", padding_mode=outside, align_corners=False)


def pixel_indices(shape: Sequence[int], device: torch.device) -> list[Tensor]:
    axes = [torch.arange(size, device=device, dtype=torch.float32) for size in shape]
    return list(torch.meshgrid(*axes, indexing="ij"))


def warp_image(values: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Values (C, *S) at x + u(x), linearly; the smallest value of a channel beyond the image.

    Args:
        values: In the numbers of the file.
        field: (n, *S) float32.

    Returns:
        float32.
    """
    numbers = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None]
    low = numbers.flatten(2).amin(dim=2).view(1, -1, *[1] * (numbers.dim() - 2))
    return np.asarray((sample(numbers - low, torch.from_numpy(field)[None]) + low)[0])


def warp_labels(labels: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Labels (*S) at x + u(x), of the nearest pixel; 0 beyond the image."""
    places = np.floor(np.indices(labels.shape, dtype=np.float64) + field + 0.5).astype(np.intp)
    limits = np.array(labels.shape).reshape(-1, *[1] * labels.ndim)
    inside = ((places >= 0) & (places < limits)).all(axis=0)
    warped = np.zeros_like(labels)
    warped[inside] = labels[tuple(places[:, inside])]
    return warped


def jacobian_determinants(field: np.ndarray) -> np.ndarray:
    """det(I + du/dx) at every pixel (*S): by how much the map from fixed to moving enlarges it; at most 0 is a fold.

    By central differences, one-sided at the border. Spacings cancel out.

    Args:
        field: (n, *S) in pixels, at least two along each axis.
    """
    count = len(field)
    rows = [np.stack(np.gradient(component.astype(np.float64))) for component in field]
    matrices = np.stack(rows) + np.eye(count).reshape(count, count, *[1] * count)
    return np.asarray(np.linalg.det(np.moveaxis(matrices, (0, 1), (-2, -1))))
