"""The discrete half of ConvexAdam: a cost for every displacement of every cell, and a smooth choice among them.

Siebert, Hansen, Heinrich: Fast 3D registration with accurate optimisation and little learning for Learn2Reg 2021.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.registration.fields import sample, smooth_box

COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Weights of the distance between the chosen displacement and the smooth field, from step to step."""
_NUMBERS_AT_ONCE = 2**24


def displacement_vectors(reach: Sequence[int]) -> Tensor:
    """All whole displacements of up to `reach` cells along each axis: (K, n) float32, the last axis fastest."""
    axes = [torch.arange(-size, size + 1, dtype=torch.float32) for size in reach]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def matching_costs(fixed: Tensor, moving: Tensor, reach: Sequence[int]) -> Tensor:
    """Squared difference of features, summed over channels and smoothed twice, for every displacement.

    Args:
        fixed: (1, C, *S) features of cells.
        moving: Of the same shape; beyond its border features are zero.
        reach: Largest displacement along each axis, in cells.

    Returns:
        (K, *S) in the order of `displacement_vectors`.
    """
    margins = [margin for size in reversed(reach) for margin in (size, size)]
    padded = F.pad(moving, margins)
    costs = torch.empty(len(displacement_vectors(reach)), *fixed.shape[2:], device=fixed.device)
    for number, vector in enumerate(displacement_vectors(reach).int().tolist()):
        part = padded
        for axis, (step, size) in enumerate(zip(vector, reach, strict=True)):
            part = part.narrow(2 + axis, size + step, fixed.shape[2 + axis])
        costs[number] = (fixed - part).square().sum(dim=1)[0]
    return smooth_box(costs[:, None], times=2)[:, 0]


def solve_coupled(costs: Tensor, vectors: Tensor, sides: Tensor) -> Tensor:
    """Alternate between the best displacement of each cell and the mean of its neighbourhood, ever closer coupled.

    Args:
        costs: (K, *S).
        vectors: (K, n) in cells.
        sides: (n,) sides of a cell relative to its shortest one, in which distances are measured.

    Returns:
        (1, n, *S) in cells.
    """
    shape = costs.shape[1:]
    table, vectors = costs.flatten(1), vectors.to(costs.device)
    field = _look_up(vectors, table.argmin(dim=0), shape)
    for weight in COUPLINGS:
        places = (field[0].flatten(1).T * sides).split(max(1, _NUMBERS_AT_ONCE // len(table)))
        parts = table.split([len(part) for part in places], dim=1)
        best = [
            (cost + weight * torch.cdist(vectors * sides, place, compute_mode=_EXACT).square()).argmin(dim=0)
            for cost, place in zip(parts, places, strict=True)
        ]
        field = _look_up(vectors, torch.cat(best), shape)
    return field


# By a matrix product, distances of neighbours would lose the digits on which a choice depends.
_EXACT = "donot_use_mm_for_euclid_dist"


def _look_up(vectors: Tensor, chosen: Tensor, shape: Sequence[int]) -> Tensor:
    """The smoothed field of chosen displacements."""
    return smooth_box(vectors[chosen].T.reshape(1, -1, *shape))


def make_inverse_consistent(forward: Tensor, backward: Tensor, *, steps: int = 15) -> Tensor:
    """Bring two fields (1, n, *S) closer to each other's inverse; the first one is returned."""
    for _ in range(steps):
        forward, backward = (
            (forward - sample(backward, forward)) / 2,
            (backward - sample(forward, backward)) / 2,
        )
    return forward
