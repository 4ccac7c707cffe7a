"""Bring a volume to the grid of another one, where the headers place it."""

from pathlib import Path

import numpy as np

from guidino_cli.data.volumes.alignment import grid_corners
from guidino_cli.errors import DataError


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

    Args:
        values: Numbers or, with `nearest`, labels.
        affine: (4, 4) from their indices x, y, z to scanner millimetres.
        target: Likewise of the other grid.
        shape: Z, Y, X of the other grid.
        path: Of the file, for the message.
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
    if (reach.max(axis=0) < 0).any() or (reach.min(axis=0) > np.array(values.shape) - 1).any():
        raise DataError(f"{path}: lies outside {outside}")
    if nearest:
        return np.asarray(affine_transform(values, matrix, offset, output_shape=shape, order=0, cval=0))
    return np.asarray(
        affine_transform(
            values.astype(np.float32), matrix, offset, output_shape=shape, order=1, cval=float(np.nanmin(values))
        )
    )
