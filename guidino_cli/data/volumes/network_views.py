"""Network inputs from a stored volume, in training and prediction: a slice, one with its neighbours, or a patch.

The first axis is the one that is cut into slices (`VolumePreprocessing.axes`). Intensities are normalised. Positions
outside the volume repeat its nearest voxel, as `Model` pads to the stride of a network.
"""

from collections.abc import Sequence

import numpy as np

from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.data.volumes.stored import StoredArray
from guidino_cli.types import ChannelStatistics

Triple = tuple[int, int, int]


def to_network_order(shape: Sequence[int], preprocessing: VolumePreprocessing) -> Triple:
    """Sizes along Z, Y, X in the order in which a network sees the axes."""
    first, second, third = (shape[axis] for axis in preprocessing.axes)
    return first, second, third


def from_network_order(values: np.ndarray, preprocessing: VolumePreprocessing) -> np.ndarray:
    """(..., Z, Y, X) of an array whose last three axes are in the network's order; a view."""
    leading = values.ndim - 3
    inverse = np.argsort(preprocessing.axes)
    return values.transpose(*range(leading), *(leading + int(axis) for axis in inverse))


def read_slab(
    values: StoredArray,
    statistics: Sequence[ChannelStatistics],
    index: int,
    preprocessing: VolumePreprocessing,
    *,
    slab: int = 1,
) -> np.ndarray:
    """Read a slice and its neighbours.

    Args:
        values: (C, Z, Y, X) as stored.
        statistics: Statistics of each channel of this volume.
        index: Position of the middle slice.
        preprocessing: Which axis is cut, and the mapping of intensities.
        slab: Odd number of slices.

    Returns:
        (slab x outputs, H, W) float32, slice by slice, the channels of each together.
    """
    count = values.shape[1 + preprocessing.slice_axis]
    wanted = np.arange(index - slab // 2, index + slab // 2 + 1).clip(0, count - 1)
    slices = {int(place): _read_slice(values, int(place), preprocessing.slice_axis) for place in np.unique(wanted)}
    normalized = {place: preprocessing.normalize(item, statistics) for place, item in slices.items()}
    return np.concatenate([normalized[int(place)] for place in wanted])


def read_patch(
    values: StoredArray,
    statistics: Sequence[ChannelStatistics],
    corner: Sequence[int],
    size: Sequence[int],
    preprocessing: VolumePreprocessing,
) -> np.ndarray:
    """Read a patch, which may reach beyond the volume.

    Args:
        values: (C, Z, Y, X) as stored.
        statistics: Statistics of each channel of this volume.
        corner: First voxel along each axis, in the network's order; may be negative.
        size: Voxels along each axis, in the network's order.
        preprocessing: Order of the axes, and the mapping of intensities.

    Returns:
        (outputs, D, H, W) float32.
    """
    patch = read_voxels(values, corner, size, preprocessing)
    return preprocessing.normalize(patch, statistics)


def read_voxels(
    values: StoredArray, corner: Sequence[int], size: Sequence[int], preprocessing: VolumePreprocessing
) -> np.ndarray:
    """Read a patch of values (C, Z, Y, X), or of labels (Z, Y, X), as stored: (C, D, H, W) or (D, H, W)."""
    leading = len(values.shape) - 3
    inside: list[slice] = [slice(None)] * (leading + 3)
    chosen = []
    for axis, start, length in zip(preprocessing.axes, corner, size, strict=True):
        places = np.arange(start, start + length).clip(0, values.shape[leading + axis] - 1)
        inside[leading + axis] = slice(int(places[0]), int(places[-1]) + 1)
        chosen.append(places - places[0])
    part = np.asarray(values[tuple(inside)])
    part = part.transpose(*range(leading), *(leading + axis for axis in preprocessing.axes))
    for number, places in enumerate(chosen):
        if len(places) != part.shape[leading + number]:
            part = part.take(places, axis=leading + number)
    return part


def _read_slice(values: StoredArray, index: int, axis: int) -> np.ndarray:
    """(C, H, W) of a stored volume (C, Z, Y, X)."""
    return np.asarray(values[(slice(None),) * (1 + axis) + (index,)])
