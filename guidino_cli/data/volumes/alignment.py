"""Comparison of the grids of two volumes by their affines, within the rounding of headers."""

from collections.abc import Sequence

import numpy as np

from guidino_cli.types import width_by_height

CORNER_TOLERANCE = 0.05
"""Largest shift of a corner in voxels between equal grids; single-precision headers are a hundred times better."""
_SPACING_TOLERANCE = 1e-3
"""Relative difference of voxel sizes that counts as rounding."""


def is_invertible(affine: np.ndarray) -> bool:
    """Whether an affine is invertible: voxels have a volume."""
    return bool(abs(np.linalg.det(affine[:3, :3])) > 1e-12)


def grid_corners(shape: Sequence[int]) -> np.ndarray:
    """(4, 8) homogeneous indices of the corner voxels of a grid of three axes."""
    return np.array([[*((np.array(shape) - 1) * corner), 1] for corner in np.ndindex(2, 2, 2)]).T


def is_identity(mapping: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether a (4, 4) mapping of voxel indices moves no corner of a grid of three axes."""
    return bool(np.abs((mapping - np.eye(4)) @ grid_corners(shape)).max() < CORNER_TOLERANCE)


def is_same_grid(
    shape: tuple[int, ...], affine: np.ndarray, other_shape: tuple[int, ...], other_affine: np.ndarray
) -> bool:
    """Whether two volumes with the same order of axes have the same voxels."""
    if shape != other_shape or not is_invertible(other_affine):
        return False
    return is_identity(np.linalg.inv(other_affine) @ affine, shape)


def describe_grid_difference(
    shape: tuple[int, ...],
    affine: np.ndarray,
    other_shape: tuple[int, ...],
    other_affine: np.ndarray,
    *,
    other_name: str,
) -> str:
    """The first difference of two grids: voxel size, shape, direction or position.

    Args:
        shape: Shape of the volume.
        affine: Affine of the volume, (4, 4) to scanner millimetres.
        other_shape: Of the volume that it is compared with.
        other_affine: Likewise.
        other_name: "the truth" or the like.
    """
    spacing, expected = (np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (affine, other_affine))
    own, other = format_shape(shape), format_shape(other_shape)
    if not np.allclose(spacing, expected, rtol=_SPACING_TOLERANCE):
        return f"{own} of {_format_spacing(spacing)}, {other_name}'s {other} of {_format_spacing(expected)}"
    if shape != other_shape:
        return f"{own}, {other_name}'s {other}"
    turn = (affine[:3, :3] / spacing) @ np.linalg.inv(other_affine[:3, :3] / expected)
    angle = float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
    if angle > 0.01:
        return f"rotated by {angle:.2g} degrees"
    shift = affine[:3, 3] - other_affine[:3, 3]
    return f"shifted by {np.linalg.norm(shift):.3g} mm ({', '.join(f'{value:.3g}' for value in shift)})"


def to_3d(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a plane as a volume of one slice."""
    return shape + (1,) * (3 - len(shape))


def format_shape(shape: tuple[int, ...]) -> str:
    """Sizes for messages: `181x217x181`, of a plane `640x480 (width x height)`."""
    return f"{width_by_height(shape)} (width x height)" if len(shape) == 2 else "x".join(map(str, shape))


def _format_spacing(spacing: np.ndarray) -> str:
    return "x".join(f"{value:.4g}" for value in spacing) + " mm"
