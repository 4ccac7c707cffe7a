"""nnU-Net's search for the largest patch whose network fits into the memory, and the batch that then fits.

As nnU-Net 2.8.1 does it in two or three dimensions: the same rules, other constants.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from guidino_cli.planning.encoders import MIN_BATCH, REFERENCE_BATCH, EncoderSpec, count_values, stage_widths
from guidino_cli.planning.topology import MIN_MAP_SIDE, Topology, plan_topology

_FIRST_SIDE = {2: 2048, 3: 256}
"""Side of the square or cube whose voxels the first patch has, by the number of axes."""
_SMALLEST_SIDE = {2: 2 * MIN_MAP_SIDE, 3: 0}
"""No side shrinks to less. nnU-Net has no smallest patch; budgets of 1 GB and more do not reach this one."""


@dataclass(frozen=True)
class FittedNetwork:
    """Patch, network and batch for one configuration; tuples of axes are in the order of the given ones.

    Attributes:
        topology: Patch, strides and kernels.
        widths: Channels per stage.
        batch_size: Patches per step.
        values: Feature map values of one patch, to which memory is taken to be proportional.
        capped_batch: Batch size that would fit into memory if the data set were larger; None without a cap.
    """

    topology: Topology
    widths: tuple[int, ...]
    batch_size: int
    values: int
    capped_batch: int | None


def fit_network(
    median: Sequence[float],
    spacing: Sequence[float],
    *,
    voxels: float,
    classes: int,
    encoder: EncoderSpec,
    budget_gb: float,
) -> FittedNetwork:
    """Take the largest patch, up to the median image, of which enough fit into the budget.

    The first patch has the aspect ratio of 1 / spacing and the voxels of a square of 2048 or a cube of 256, cut to the
    median.

    Args:
        median: Median size of the training images along each axis.
        spacing: Spacing along the same axes.
        voxels: Pixels or voxels of all training images together.
        classes: K, background included.
        encoder: Encoder of the network.
        budget_gb: GPU memory that the network may fill, in GB.
    """
    axes = len(spacing)
    most = encoder.reference_values(budget_gb, axes=axes) * (REFERENCE_BATCH[axes] / encoder.patches_to_fit[axes])
    topology = plan_topology(_first_patch(median, spacing), spacing)
    while count_values(topology.map_sizes(), encoder=encoder, classes=classes) > most:
        smaller = _shrink(topology, median, spacing)
        if min(topology.patch) <= _SMALLEST_SIDE[axes] or min(smaller) < 1:
            break
        topology = plan_topology(smaller, spacing)
    return fit_batch(topology, voxels=voxels, classes=classes, encoder=encoder, budget_gb=budget_gb)


def fit_batch(
    topology: Topology, *, voxels: float, classes: int, encoder: EncoderSpec, budget_gb: float
) -> FittedNetwork:
    """Take as many patches as fit, but no larger a share of the data than the encoder's; arguments as above."""
    axes = len(topology.patch)
    values = count_values(topology.map_sizes(), encoder=encoder, classes=classes)
    # In nnU-Net's order of operations: another one may round a half to the other side.
    fitting = round(encoder.reference_values(budget_gb, axes=axes) / values * REFERENCE_BATCH[axes])
    covering = round(voxels * encoder.covered / prod(topology.patch))
    batch = max(min(fitting, covering), MIN_BATCH)
    widths = stage_widths(topology.stages, axes=axes)
    return FittedNetwork(topology, widths, batch, values, fitting if max(fitting, MIN_BATCH) > batch else None)


def _first_patch(median: Sequence[float], spacing: Sequence[float]) -> list[float]:
    axes = len(spacing)
    aspect = 1 / np.asarray(spacing, dtype=np.float64)
    scale = (_FIRST_SIDE[axes] ** axes / np.prod(aspect)) ** (1 / axes)
    return [min(round(float(side)), most) for side, most in zip(aspect * scale, median, strict=True)]


def _shrink(topology: Topology, median: Sequence[float], spacing: Sequence[float]) -> list[int]:
    """The next smaller patch: the axis that is largest relative to the median shrinks, the last of equal ones.

    The step is the factor by which the side would have to be divisible if it were smaller by its present factor:
    steps of the present factor would skip valid sizes.
    """
    axis = max(range(len(median)), key=lambda axis: (topology.patch[axis] / median[axis], axis))
    tried, smaller = list(topology.patch), list(topology.patch)
    tried[axis] -= 2 ** topology.pools[axis]
    smaller[axis] -= 2 ** plan_topology(tried, spacing).pools[axis]
    return smaller
