"""Alignment of a prediction with the grid of its truth: exact reorientation, resampling only on request."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from guidino_cli.data.volumes.alignment import (
    describe_grid_difference,
    format_shape,
    is_identity,
    is_invertible,
    to_3d,
)
from guidino_cli.data.volumes.canonical import NO_ORIENTATION
from guidino_cli.data.volumes.covering import extend_to_cover
from guidino_cli.errors import DataError
from guidino_cli.evaluation.masks import Mask
from guidino_cli.types import Geometry


def align_to_truth(mask: Mask, truth: Mask, *, resample: bool, ignore_headers: bool = False) -> tuple[Mask, str]:
    """Bring a prediction into the grid of its truth.

    Volumes are compared by their affines: the same voxels with permuted or flipped axes are reoriented without changing
    a value. Two volumes that both state no orientation are compared voxel by voxel.

    Args:
        mask: The prediction.
        truth: True mask of the same case.
        resample: Take the nearest pixel where the grids differ, instead of failing.
        ignore_headers: Compare volumes voxel by voxel, whatever their affines.

    Returns:
        The aligned prediction, and a note on what was done ("" if nothing).

    Raises:
        DataError: The grids differ and `resample` is off, or only one volume states an orientation.
    """
    if mask.affine is None or truth.affine is None or ignore_headers:
        if mask.is_volume and truth.is_volume and not ignore_headers:
            _require_equal_knowledge(mask, truth)
        fitted, note = _align_by_size(mask, truth, resample=resample)
        return fitted, "; ".join(item for item in (_describe_voxelwise(mask, truth), note) if item)
    to_truth = _voxel_to_voxel(mask.affine, truth.affine)
    reoriented, axes = _reorient(mask, mask.affine, to_truth)
    remaining = np.linalg.inv(truth.affine) @ axes
    target = truth.labels.shape
    if reoriented.labels.shape == to_3d(target) and is_identity(remaining, to_3d(target)):
        flat = _map_arrays(reoriented, lambda values: values.reshape(target))
        return flat, "" if np.array_equal(axes, mask.affine) else _describe_reorientation(mask.affine, truth.affine)
    difference = describe_grid_difference(
        reoriented.labels.shape, axes, to_3d(target), truth.affine, other_name="the truth"
    )
    if resample:
        to_mask = np.linalg.inv(axes) @ truth.affine
        fitted = _map_arrays(reoriented, lambda values: _resample_nearest(values, to_mask, target))
        return fitted, f"resampled by the nearest voxel where the headers place it: {difference}"
    raise DataError(
        f"its voxels are not the truth's: {difference}; --resample nearest brings them there, --ignore-headers goes by "
        "their order, if the header is wrong"
    )


def complete_slices(mask: Mask, truth: Mask, *, resample: bool) -> tuple[Mask, Mask]:
    """Put empty slices where a file left them out, so that prediction and truth cover each other.

    Without them, what lies beyond the slices of the truth would count for nothing.

    Args:
        mask: The prediction.
        truth: True mask of the same case.
        resample: Whether the prediction may be resampled, so that its voxels may be other ones than the truth's.

    Returns:
        Prediction and truth; unchanged where nothing may be missing, or where they have no place in common.

    Raises:
        DataError: The truth would have too many voxels.
    """
    if truth.omits_empty_slices:
        truth = _extend(truth, mask, same_voxels=not resample)
    return (_extend(mask, truth, same_voxels=True) if mask.omits_empty_slices else mask), truth


def _extend(mask: Mask, other: Mask, *, same_voxels: bool) -> Mask:
    geometry, target = _geometry_of(mask), _geometry_of(other)
    if geometry is None or target is None:
        return mask

    def extend(values: np.ndarray) -> np.ndarray:
        return extend_to_cover(values, geometry, target, same_voxels=same_voxels)[0]

    _, extended = extend_to_cover(mask.labels, geometry, target, same_voxels=same_voxels)
    ignored = None if mask.ignored is None else extend(mask.ignored)
    return replace(_map_arrays(mask, extend), ignored=ignored, affine=extended.affine)


def _geometry_of(mask: Mask) -> Geometry | None:
    if mask.spacing_mm is None or mask.affine is None or mask.labels.ndim != 3:
        return None
    return Geometry("the truth", mask.labels.shape, mask.spacing_mm, "mm", mask.affine)


def resize_nearest(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resize labels; every new pixel takes the old pixel that contains its centre."""
    for axis, size in enumerate(shape):
        old = labels.shape[axis]
        labels = labels.take(((np.arange(size) + 0.5) * old / size).astype(np.intp), axis=axis)
    return labels


def _align_by_size(mask: Mask, truth: Mask, *, resample: bool) -> tuple[Mask, str]:
    shape, target = mask.labels.shape, truth.labels.shape
    if shape == target:
        return mask, ""
    if not resample or len(shape) != len(target):
        hint = " (turned by 90 degrees?)" if shape == target[::-1] else ""
        sizes = f"is {format_shape(shape)}, the truth {format_shape(target)}{hint}"
        raise DataError(f"{sizes}; --resample nearest fits it to the truth")
    note = f"resampled from {format_shape(shape)} to {format_shape(target)} by the nearest pixel"
    return _map_arrays(mask, lambda values: resize_nearest(values, target)), note


def _require_equal_knowledge(mask: Mask, truth: Mask) -> None:
    """Refuse a pair of volumes of which one states an orientation and the other does not."""
    if (mask.affine is None) != (truth.affine is None):
        where, other = ("", "the truth's does") if mask.affine is None else ("of the truth: ", "its own does")
        raise DataError(
            f"{where}{NO_ORIENTATION}, {other}; --ignore-headers compares voxel by voxel, if both are stored in the "
            "same order; else correct the header"
        )


def _describe_voxelwise(mask: Mask, truth: Mask) -> str:
    """Note on headers that a voxel-by-voxel comparison ignores; "" for images."""
    if not (mask.is_volume and truth.is_volume):
        return ""
    if mask.affine is None and truth.affine is None:
        return "neither header says where the axes point: compared voxel by voxel"
    if mask.affine is None or truth.affine is None:
        return "headers ignored, though one of them does not say where the axes point"
    return "" if np.allclose(mask.affine, truth.affine) else "headers ignored, though they place it elsewhere"


def _voxel_to_voxel(affine: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(4, 4) matrix from voxel indices of one volume to those of another."""
    if not (is_invertible(affine) and is_invertible(target)):
        raise DataError("its header or the truth's gives a voxel no volume (singular affine); correct the header")
    return np.linalg.inv(target) @ affine


def _reorient(mask: Mask, affine: np.ndarray, to_truth: np.ndarray) -> tuple[Mask, np.ndarray]:
    """The volume, as three axes, in the truth's axis order and directions, and its new affine."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    shape_3d, axes = to_3d(mask.labels.shape), io_orientation(to_truth)
    if np.array_equal(axes, [[0, 1], [1, 1], [2, 1]]):
        return _map_arrays(mask, lambda values: values.reshape(shape_3d)), affine
    reoriented = _map_arrays(
        mask, lambda values: np.ascontiguousarray(apply_orientation(values.reshape(shape_3d), axes))
    )
    return reoriented, affine @ inv_ornt_aff(axes, shape_3d)


def _describe_reorientation(affine: np.ndarray, target: np.ndarray) -> str:
    from nibabel.orientations import aff2axcodes

    old, new = "".join(aff2axcodes(affine)), "".join(aff2axcodes(target))
    return f"reoriented from {old} to {new}, no value changed"


def _resample_nearest(values: np.ndarray, to_values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Values at the voxels of another grid, 0 outside their own; slice by slice to save memory."""
    result = np.zeros(to_3d(shape), dtype=values.dtype)
    plane = np.indices((1, *to_3d(shape)[1:])).reshape(3, -1)
    for first in range(len(result)):
        position = to_values[:3, :3] @ (plane + np.array([[first], [0], [0]])) + to_values[:3, 3:]
        index = np.floor(position + 0.5).astype(np.intp)
        inside = ((index >= 0) & (index < np.array(values.shape)[:, None])).all(axis=0)
        result[first].reshape(-1)[inside] = values[tuple(index[:, inside])]
    return result.reshape(shape)


def _map_arrays(mask: Mask, change: Callable[[np.ndarray], np.ndarray]) -> Mask:
    """Apply a function to labels and instances."""
    instances = None if mask.instances is None else change(mask.instances)
    return replace(mask, labels=change(mask.labels), instances=instances)
