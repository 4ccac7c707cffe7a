"""Canonical axes: every volume is worked on as (Z, Y, X), from the feet up, from front to back, from right to left.

This is the order in which DICOM and nnU-Net store axial slices, and each slice looks as radiologists view it: the front
on top, the patient's right on the left. In nibabel's words the voxel axes are LPS+, and the array is transposed.
"""

import numpy as np

from guidino_cli.errors import DataError
from guidino_cli.types import Geometry

CANONICAL_CODES = "LPS"
NO_ORIENTATION = "its header does not say where its axes point (sform_code and qform_code are 0)"


def find_orientation(
    geometry: Geometry, *, axes_where_unknown: str | None = None, target: str = CANONICAL_CODES
) -> np.ndarray:
    """The flips and permutation that bring a volume to canonical axes.

    Args:
        geometry: Of the volume, with three axes.
        axes_where_unknown: Directions of the axes, such as "RAS", of a volume whose header states none.
        target: Directions of the axes that are wanted.

    Returns:
        (3, 2) orientation as nibabel's `apply_orientation` takes it. A picture has its columns and rows as x and y.

    Raises:
        DataError: The header does not say where the axes point.
    """
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    if geometry.unit == "px":
        return np.array([[0, 1], [1, 1], [2, 1]])
    if geometry.affine is None and axes_where_unknown is None:
        raise DataError(f"{geometry.source}: {NO_ORIENTATION}; --orientation RAS or LPS tells where they point")
    try:
        known = (
            axcodes2ornt(tuple(axes_where_unknown or ""))
            if geometry.affine is None
            else io_orientation(geometry.affine)
        )
    except (ValueError, np.linalg.LinAlgError) as error:
        raise DataError(f"{geometry.source}: its affine is unusable ({error}); correct the header") from error
    if np.isnan(known).any() or len(known) != 3:
        raise DataError(f"{geometry.source}: its affine does not say where its axes point; correct the header")
    return np.asarray(ornt_transform(known, axcodes2ornt(tuple(target))))


def turn(values: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """Turn (X, Y, Z) or (X, Y, Z, C) in the axes of a source to (Z, Y, X) or (C, Z, Y, X); a view, no value is copied.

    Args:
        values: In the axis order of the source.
        orientation: From `find_orientation`.
    """
    from nibabel.orientations import apply_orientation

    return np.asarray(apply_orientation(values, orientation)).T


def turn_back(values: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """Turn canonical (Z, Y, X) to the axes of the source, (X, Y, Z): the inverse of `turn`."""
    from nibabel.orientations import apply_orientation

    inverse = np.empty_like(orientation)
    for axis, (target, flip) in enumerate(orientation):
        inverse[int(target)] = axis, flip
    return np.asarray(apply_orientation(values.T, inverse))


def reoriented_affine(geometry: Geometry, orientation: np.ndarray) -> np.ndarray:
    """(4, 4) from indices along the axes that an orientation brings a volume to, to scanner millimetres.

    Args:
        geometry: Of the volume, with an affine.
        orientation: From `find_orientation`.
    """
    from nibabel.orientations import inv_ornt_aff

    return np.asarray(geometry.affine @ inv_ornt_aff(orientation, geometry.shape))


def orientation_codes(geometry: Geometry) -> str:
    """Directions of a volume's axes, such as "PSR"; "" if its header states none."""
    from nibabel.orientations import aff2axcodes

    return "" if geometry.affine is None else "".join(code or "?" for code in aff2axcodes(geometry.affine))
