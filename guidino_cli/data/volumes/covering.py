"""Extend a label volume of which empty slices were left out, so that it covers another grid of the same voxels."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from guidino_cli.data.limits import require_pixels
from guidino_cli.data.volumes.alignment import CORNER_TOLERANCE, grid_corners, is_invertible
from guidino_cli.types import Geometry


def extend_to_cover(
    labels: np.ndarray, geometry: Geometry, other: Geometry, *, same_voxels: bool = True
) -> tuple[np.ndarray, Geometry]:
    """Add background around a label volume until it covers another grid.

    Args:
        labels: (X, Y, Z) labels, 0 for background.
        geometry: Of the labels.
        other: The grid to cover; its axes may be permuted and flipped.
        same_voxels: Whether to extend only towards a grid of the same voxels; else towards any.

    Returns:
        Labels and geometry of the extended volume; those given if they cover the other grid already, if the voxels of
        the two are not the same ones and must be, or if one of them states no orientation.

    Raises:
        DataError: The extended volume would have too many voxels.
    """
    before, after = _find_margins(geometry, other, same_voxels=same_voxels)
    if geometry.affine is None or not (before.any() or after.any()):
        return labels, geometry
    shape = [int(length) for length in before + geometry.shape + after]
    require_pixels(Path(geometry.source), shape, is_volume=True)
    affine = geometry.affine.copy()
    affine[:3, 3] = (geometry.affine @ [*-before, 1])[:3]
    extended = np.pad(labels, list(zip(before.tolist(), after.tolist(), strict=True)))
    return extended, replace(geometry, shape=extended.shape, affine=affine)


def _find_margins(geometry: Geometry, other: Geometry, *, same_voxels: bool) -> tuple[np.ndarray, np.ndarray]:
    """Voxels to add before and after along each axis; zeros where nothing fits."""
    none = np.zeros(3, dtype=int), np.zeros(3, dtype=int)
    if geometry.affine is None or other.affine is None or len(other.shape) != 3 or len(geometry.shape) != 3:
        return none
    if not (is_invertible(geometry.affine) and is_invertible(other.affine)):
        return none
    to_own = np.linalg.inv(geometry.affine) @ other.affine
    whole = np.rint(to_own)
    corners = grid_corners(other.shape)
    axes = np.abs(whole[:3, :3])
    is_turned = bool((axes.sum(axis=0) == 1).all() and (axes.sum(axis=1) == 1).all())
    if is_turned and np.abs((to_own - whole) @ corners).max() < CORNER_TOLERANCE:
        reach = (whole @ corners)[:3]
    elif same_voxels:
        return none
    else:
        reach = (to_own @ corners)[:3]
    before = np.maximum(0, np.ceil(-reach.min(axis=1) - CORNER_TOLERANCE)).astype(int)
    after = np.maximum(0, np.ceil(reach.max(axis=1) - CORNER_TOLERANCE) + 1 - geometry.shape).astype(int)
    return before, after
