"""Bring a volume to the grid of another one, where the headers place it."""

from pathlib import Path

import numpy as np

from guidino_cli.data.volumes.alignment import grid_corners
from guidino_cli.errors import DataError

_EDGE = 0.5 + 1e-4
"""Voxels from the centre of a border voxel to its outer face, which rounded headers may miss by a little."""


def resample_to_grid(
    values: np.ndarray,
    affine: np.ndarray,
    target: np.ndarray,
    shape: tuple[int, int, int],
    *,
    path: Path,
    outside: str,
    nearest: bool = False,
) -> np.ndarray:
    """Resample (Z, Y, X) to another grid.

    A voxel fills its whole volume: between the centre of a border voxel and its outer face, half a voxel further, its
    own value is taken. Only what lies beyond the faces is outside.

    Args:
        values: Numbers or, with `nearest`, labels.
        affine: (4, 4) from their indices x, y, z to scanner millimetres.
        target: Likewise of the other grid.
        shape: Z, Y, X of the other grid.
        path: Path of the file, for the message.
        outside: What it lies outside of, and what helps, for the message.
        nearest: Take the nearest voxel, and 0 outside; otherwise interpolate linearly, with the smallest value outside.

    Returns:
        float32, or the type of the labels.

    Raises:
        DataError: The volumes have no place in common.
    """
    from scipy.ndimage import affine_transform

    mapping = np.linalg.inv(affine) @ target
    # From indices (x, y, z) to (z, y, x).
    matrix, offset = mapping[:3, :3][::-1, ::-1], mapping[:3, 3][::-1]
    reach = grid_corners(shape)[:3].T @ matrix.T + offset
    if (reach.max(axis=0) < -_EDGE).any() or (reach.min(axis=0) > np.array(values.shape) - 1 + _EDGE).any():
        raise DataError(f"{path}: lies outside {outside}")
    numbers = values if nearest else values.astype(np.float32)
    background = 0 if nearest else float(np.nanmin(values))
    # Of scipy's modes, only "nearest" takes the border's value beyond its centre, but does so at any distance.
    placed = affine_transform(numbers, matrix, offset, output_shape=shape, order=0 if nearest else 1, mode="nearest")
    _clear_outside(placed, matrix, offset, values.shape, background)
    return np.asarray(placed)


def _clear_outside(
    placed: np.ndarray, matrix: np.ndarray, offset: np.ndarray, shape: tuple[int, ...], background: float
) -> None:
    """Set voxels of a resampled volume to `background` that lie beyond the faces of the volume of `shape`."""
    y, x = np.arange(placed.shape[1])[:, None], np.arange(placed.shape[2])
    for z, plane in enumerate(placed):
        for row, start, size in zip(matrix, offset, shape, strict=True):
            place = row[0] * z + row[1] * y + row[2] * x + start
            plane[(place < -_EDGE) | (place > size - 1 + _EDGE)] = background
