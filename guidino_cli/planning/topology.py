"""nnU-Net's topology of a U-Net for a patch: how often each axis is halved, at which stages, with which kernels.

Isensee et al., Nature Methods 2021 (supplementary note 2), as nnU-Net 2.8.1 applies it, in two or three dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

MIN_MAP_SIDE = 4
_MIN_LONE_SIDE = 3 * MIN_MAP_SIDE
_FACTOR = 2
"""Axes whose spacing is less than so many times the finest one are treated alike."""


@dataclass(frozen=True)
class Topology:
    """Stages of an encoder; all tuples of a stage have a value per axis.

    Attributes:
        patch: The patch, enlarged to multiples of the factors by which the strides divide it.
        strides: Stride of each stage, 1 or 2 per axis; 1 in the first stage.
        kernels: Kernel of each stage, 1 or 3 per axis.
    """

    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.strides)

    @property
    def pools(self) -> tuple[int, ...]:
        """Number of times that each axis is halved."""
        return tuple(sum(stride == 2 for stride in strides) for strides in zip(*self.strides, strict=True))

    def map_sizes(self) -> list[tuple[int, ...]]:
        """Size of the feature maps of each stage."""
        sizes, size = [], self.patch
        for stride in self.strides:
            size = tuple(side // step for side, step in zip(size, stride, strict=True))
            sizes.append(size)
        return sizes


def plan_topology(patch: Sequence[float], spacing: Sequence[float]) -> Topology:
    """Halve the axes of a patch as often as nnU-Net does.

    At each stage those axes are halved that keep 4 voxels and whose spacing, at that stage, is less than twice the
    finest of them; one that is alone needs 12 voxels. A kernel has a length of 1 along an axis until its spacing is
    less than twice the finest of all, and 3 from then on and at the deepest stage.

    Args:
        patch: Size along each axis; halves occur where it is a median.
        spacing: Spacing along the same axes.
    """
    sides, distances = list(patch), list(spacing)
    strides = [(1,) * len(sides)]
    kernels: list[tuple[int, ...]] = []
    kernel = (1,) * len(sides)
    while axes := _axes_to_halve(sides, distances):
        finest = min(distances)
        kernel = tuple(
            3 if size == 3 or distance / finest < _FACTOR else 1
            for size, distance in zip(kernel, distances, strict=True)
        )
        kernels.append(kernel)
        strides.append(tuple(2 if axis in axes else 1 for axis in range(len(sides))))
        for axis in axes:
            sides[axis], distances[axis] = ceil(sides[axis] / 2), distances[axis] * 2
    kernels.append((3,) * len(sides))
    pools = [sum(stride[axis] == 2 for stride in strides) for axis in range(len(sides))]
    padded = tuple(ceil(side / 2**count) * 2**count for side, count in zip(patch, pools, strict=True))
    return Topology(padded, tuple(strides), tuple(kernels))


def _axes_to_halve(sides: Sequence[float], distances: Sequence[float]) -> list[int]:
    """Axes halved next; none at the deepest stage."""
    large = [axis for axis, side in enumerate(sides) if side >= 2 * MIN_MAP_SIDE]
    if not large:
        return []
    finest = min(distances[axis] for axis in large)
    axes = [axis for axis in large if distances[axis] / finest < _FACTOR]
    return [] if len(axes) == 1 and sides[axes[0]] < _MIN_LONE_SIDE else axes
