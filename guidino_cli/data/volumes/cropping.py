"""Size of a volume after cropping to its non-zero voxels, as nnU-Net does before it measures anything."""

import numpy as np

from guidino_cli.data.volumes.resampling import Size
from guidino_cli.data.volumes.stored import StoredArray


def nonzero_box(values: StoredArray) -> Size:
    """Size of the box around the voxels of (C, Z, Y, X) that are not zero in any channel; the whole if all are.

    One plane is read at a time.
    """
    channels, *shape = values.shape
    used = [np.zeros(side, dtype=bool) for side in shape]
    for channel in range(channels):
        for number in range(shape[0]):
            is_set = np.asarray(values[channel, number]) != 0
            used[0][number] |= bool(is_set.any())
            used[1] |= is_set.any(axis=1)
            used[2] |= is_set.any(axis=0)
    z, y, x = (_extent(mask) for mask in used)
    return z, y, x


def _extent(mask: np.ndarray) -> int:
    where = np.flatnonzero(mask)
    return int(where[-1] - where[0] + 1) if where.size else mask.size
