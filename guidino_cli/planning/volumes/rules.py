"""nnU-Net's plans for volumes: spacing, order of axes, 3-D network, 2-D network on slices, and whether to cascade.

Isensee et al., Nature Methods 2021 (supplementary note 2), as nnU-Net 2.8.1 applies them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from guidino_cli.data.volumes.resampling import resampled_size
from guidino_cli.data.volumes.spacing import Shape, Spacing, target_spacing
from guidino_cli.planning.encoders import EncoderSpec
from guidino_cli.planning.fitting import FittedNetwork, fit_network

_WHOLE_SHARE = 0.25
"""A patch of less than this share of the median volume sees too little of it: low resolution comes first."""
_COARSER = 1.03
_SIMILAR = 2
_WORTHWHILE = 2
"""Low resolution is left out unless it has at least so many times fewer voxels."""


@dataclass(frozen=True)
class LowResolution:
    """First stage of nnU-Net's cascade: the whole volume at a coarser spacing.

    Attributes:
        spacing_mm: Its spacing.
        median: Median size of a volume in voxels.
        network: Patch, network and batch.
    """

    spacing_mm: tuple[float, ...]
    median: tuple[int, ...]
    network: FittedNetwork


@dataclass(frozen=True)
class VolumePlans:
    """nnU-Net's plans for a data set of volumes; all tuples of axes are in the order of `axes`.

    Attributes:
        axes: The given axes in nnU-Net's order: the one of the largest spacing first, slices are cut across it.
        spacing_mm: Target spacing.
        median: Median size of a resampled volume in voxels; halves occur with an even number of them.
        full: The network on the whole resolution, "3d_fullres"; None if the volumes are single slices.
        low: The network on a coarser resolution, "3d_lowres", whose result the other one would refine.
        slices: The network on slices, "2d".
    """

    axes: tuple[int, int, int]
    spacing_mm: tuple[float, ...]
    median: tuple[float, ...]
    full: FittedNetwork | None
    low: LowResolution | None
    slices: FittedNetwork

    @property
    def has_batch_dice(self) -> bool:
        """Whether the Dice loss of the full resolution is over the batch; otherwise it is over each patch.

        That of slices always is over the batch, that of the low resolution never.
        """
        return self.low is not None


def plan_volumes(
    spacings_mm: Sequence[Spacing],
    shapes: Sequence[Shape],
    *,
    classes: int,
    encoder: EncoderSpec,
    budget_gb: float,
    first_axis: int | None = None,
) -> VolumePlans:
    """Plan as nnU-Net does.

    Args:
        spacings_mm: Spacing of each training volume in mm.
        shapes: Its size in voxels along the same axes, after cropping to its non-zero voxels.
        classes: K, background included.
        encoder: Encoder of the networks.
        budget_gb: GPU memory that a network may fill, in GB.
        first_axis: Axis that comes first; by default that of the largest spacing.

    Raises:
        DataError: No volume.
    """
    target = target_spacing(spacings_mm, shapes)
    axes = _order_axes(target.index(max(target)) if first_axis is None else first_axis)
    spacing = tuple(target[axis] for axis in axes)
    resampled = [resampled_size(shape, own, target) for own, shape in zip(spacings_mm, shapes, strict=True)]
    sides = np.median(resampled, axis=0)
    median = tuple(float(sides[axis]) for axis in axes)
    voxels = prod(median) * len(shapes)

    def fit(median: Sequence[float], spacing: Sequence[float], voxels: float) -> FittedNetwork:
        return fit_network(median, spacing, voxels=voxels, classes=classes, encoder=encoder, budget_gb=budget_gb)

    full = low = None
    if median[0] != 1:
        full = fit(median, spacing, voxels)
        low = _plan_low_resolution(full, median, spacing, cases=len(shapes), fit=fit)
    return VolumePlans(axes, spacing, median, full, low, fit(median[1:], spacing[1:], voxels))


def _order_axes(first: int) -> tuple[int, int, int]:
    second, third = (axis for axis in range(3) if axis != first)
    return first, second, third


def _plan_low_resolution(
    full: FittedNetwork,
    median: Sequence[float],
    spacing: Sequence[float],
    *,
    cases: int,
    fit: Callable[[Sequence[float], Sequence[float], float], FittedNetwork],
) -> LowResolution | None:
    """The finest spacing, in steps of 3 %, at which a patch holds a quarter of the median volume.

    Axes that are more than twice as fine as the coarsest become coarser first.
    """
    own, coarser = np.asarray(spacing), np.array(spacing)
    found, patch_voxels, voxels = None, prod(full.topology.patch), prod(median)
    while patch_voxels / voxels < _WHOLE_SHARE:
        is_fine = coarser.max() / coarser > _SIMILAR
        coarser[is_fine if is_fine.any() else slice(None)] *= _COARSER
        sides = own / coarser * np.asarray(median)
        voxels = float(np.prod(sides))
        rounded = tuple(max(1, round(float(side))) for side in sides)
        network = fit(rounded, coarser.tolist(), voxels * cases)
        found = LowResolution(tuple(coarser.tolist()), rounded, network)
        patch_voxels = prod(network.topology.patch)
    return None if prod(median) / voxels < _WORTHWHILE else found
