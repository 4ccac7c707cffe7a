"""ConvexAdam in two and three dimensions: features of two images in, a displacement field out.

Siebert, Hansen, Heinrich (2021), and the defaults of their package convexAdam 0.2. Differences to the package: an image
is sampled where displacements point to, not farther by 1/(n - 1) of them on an axis of n cells; sides that are no
multiples of a cell are continued by their last pixel instead of being stretched; and where voxels are longer along one
axis, a cell has fewer of them there, and distances are measured in the shortest side of a cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np
import torch
from torch import Tensor

from guidino_cli.registration.comparison import make_comparison
from guidino_cli.registration.convex import (
    displacement_vectors,
    make_inverse_consistent,
    matching_costs,
    solve_coupled,
)
from guidino_cli.registration.fields import (
    average_cells,
    box_matrices,
    crop_to,
    measure_roughness,
    pad_to_multiples,
    per_axis,
    resize_linear,
    smooth_box,
    smooth_by_matrices,
)

FEATURE_WEIGHT = 12
"""Of the mean squared difference of features: the channels of MIND-SSC in three dimensions, with any number of them."""


@dataclass(frozen=True)
class ConvexAdamSettings:
    """Numbers of the method; defaults are those of the package convexAdam.

    Attributes:
        grid: Side of a cell of the discrete search, in pixels of the finest axis.
        reach: Farthest displacement that it tries, in cells.
        adam_grid: Side of a cell of the control points, likewise.
        steps: Of Adam; 0 leaves the result of the search.
        learning_rate: Of Adam, in cells.
        smoothness: Weight of the squared differences between neighbouring displacements.
        kernel: Side of a box in pixels, odd, that smooths the result three times; 0 leaves it.
    """

    grid: int = 6
    reach: int = 4
    adam_grid: int = 2
    steps: int = 80
    learning_rate: float = 1.0
    smoothness: float = 1.25
    kernel: int = 0


@dataclass(frozen=True)
class CellGrid:
    """Cells of an image: pixels of each along every axis, and their sides relative to the shortest."""

    pixels: tuple[int, ...]
    sides: tuple[float, ...]

    @classmethod
    def of(cls, spacing: Sequence[float], side: int) -> "CellGrid":
        """Cells as nearly cubic as whole pixels allow, of `side` pixels of the finest axis."""
        finest = min(spacing)
        pixels = tuple(max(1, round(side * finest / size)) for size in spacing)
        sides = [count * size for count, size in zip(pixels, spacing, strict=True)]
        return cls(pixels, tuple(length / min(sides) for length in sides))


def find_short_axis(shape: Sequence[int], spacing: Sequence[float], settings: ConvexAdamSettings) -> int | None:
    """The first axis with less than two cells, on which nothing can be found; None if there is none."""
    cells = (CellGrid.of(spacing, settings.grid), CellGrid.of(spacing, settings.adam_grid))
    for axis, size in enumerate(shape):
        if size <= max(grid.pixels[axis] for grid in cells):
            return axis
    return None


def register_features(
    fixed: Tensor, moving: Tensor, spacing: Sequence[float], settings: ConvexAdamSettings
) -> np.ndarray:
    """Find the displacements that make the features of two images alike.

    Args:
        fixed: (C, Y, X) or (C, Z, Y, X) float32.
        moving: Of the same shape.
        spacing: Size of a pixel along each axis.
        settings: Of the method.

    Returns:
        (n, *S) float32, in pixels, from the fixed image to the moving one; see `fields`.

    Raises:
        ValueError: An axis has less than two cells.
    """
    shape = fixed.shape[1:]
    if find_short_axis(shape, spacing, settings) is not None:
        raise ValueError(f"an axis of {tuple(shape)} has less than two cells")
    search, control = CellGrid.of(spacing, settings.grid), CellGrid.of(spacing, settings.adam_grid)
    multiples = [lcm(*pair) for pair in zip(search.pixels, control.pixels, strict=True)]
    fixed, moving = (pad_to_multiples(features[None], multiples) for features in (fixed, moving))
    with torch.no_grad():
        field = search_displacements(fixed, moving, search, reach=_reach(search, settings.reach))
    if settings.steps:
        field = refine_displacements(fixed, moving, field, control, settings)
    if settings.kernel:
        field = smooth_box(field, times=3, side=settings.kernel)
    return np.asarray(crop_to(field, shape)[0].cpu().contiguous())


def _reach(grid: CellGrid, reach: int) -> tuple[int, ...]:
    """Cells along each axis that lie within `reach` of the shortest sides; at least one."""
    return tuple(max(1, round(reach / side)) for side in grid.sides)


def search_displacements(fixed: Tensor, moving: Tensor, grid: CellGrid, *, reach: Sequence[int]) -> Tensor:
    """The discrete search, both ways: a field (1, n, *S) in pixels.

    Args:
        fixed: (1, C, *S) features, whose sides are multiples of a cell.
        moving: Of the same shape.
        grid: Cells of the search.
        reach: Farthest displacement along each axis, in cells.
    """
    sides = torch.tensor(grid.sides, device=fixed.device)
    vectors = displacement_vectors(reach)
    cells = [average_cells(features, grid.pixels) for features in (fixed, moving)]
    fields = [
        solve_coupled(matching_costs(first, second, reach), vectors, sides)
        for first, second in ((cells[0], cells[1]), (cells[1], cells[0]))
    ]
    consistent = make_inverse_consistent(fields[0], fields[1])
    return resize_linear(consistent, fixed.shape[2:]) * per_axis(grid.pixels, fixed)


def refine_displacements(
    fixed: Tensor, moving: Tensor, field: Tensor, grid: CellGrid, settings: ConvexAdamSettings
) -> Tensor:
    """Adam on the displacements of control points, three times smoothed: a field (1, n, *S) in pixels.

    The loss is 12 times the mean squared difference of features plus the weighted mean squared difference between
    neighbouring displacements, as the derivative of a smooth map would be measured. The field with the least loss is
    kept: on two images that are equal already, Adam would make steps of the size of rounding errors' signs.
    """
    pixels = per_axis(grid.pixels, fixed)
    target, source = (average_cells(features, grid.pixels) for features in (fixed, moving))
    compare = make_comparison(target, source)
    points = (resize_linear(field, target.shape[2:]) / pixels).detach().requires_grad_(True)
    optimizer = torch.optim.Adam([points], lr=settings.learning_rate)
    matrices = box_matrices(target.shape[2:], times=3, like=points)
    # On the device: reading the loss would wait for it in every step.
    best, least = points.detach(), points.new_full((), torch.inf)
    for _ in range(settings.steps):
        optimizer.zero_grad()
        smooth = smooth_by_matrices(points, matrices)
        difference = compare(smooth)
        loss = FEATURE_WEIGHT * difference + settings.smoothness * measure_roughness(smooth, grid.sides)
        is_less = loss.detach() < least
        best, least = (torch.where(is_less, new, old) for new, old in ((smooth.detach(), best), (loss.detach(), least)))
        loss.backward()
        optimizer.step()
    return resize_linear(best, fixed.shape[2:]) * pixels
