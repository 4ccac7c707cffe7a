"""Bring a prediction into the grid of its truth: turned and mirrored exactly, resampled only when asked."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from guidino_cli.errors import DataError
from guidino_cli.evaluation.masks import Mask
from guidino_cli.types import width_by_height

_SAME = 0.05
"""Voxels by which no corner of a volume may be off; headers in single precision are a hundred times better."""
_SAME_SPACING = 1e-3
"""Relative difference of voxel sizes that is rounding."""


def align_to_truth(mask: Mask, truth: Mask, *, resample: bool, ignore_headers: bool = False) -> tuple[Mask, str]:
    """The prediction in the grid of the truth, and a note of what was done to it ("" if nothing).

    Volumes are compared by where their headers put each voxel: the same voxels in another order of axes, or counted
    from the other end, are brought into the truth's order without touching a value.

    Args:
        mask: The prediction.
        truth: Of the same case.
        resample: Take the nearest pixel where the grids differ, instead of failing.
        ignore_headers: Volumes belong together voxel by voxel, whatever their headers say.

    Raises:
        DataError: The grids differ and `resample` is off.
    """
    if mask.affine is None or truth.affine is None:
        return _fit_by_size(mask, truth, resample=resample)
    if ignore_headers:
        fitted, note = _fit_by_size(mask, truth, resample=resample)
        ignored = "" if np.allclose(mask.affine, truth.affine) else "headers ignored, though they place it elsewhere"
        return fitted, "; ".join(item for item in (ignored, note) if item)
    to_truth = _voxel_to_voxel(mask.affine, truth.affine)
    turned, axes = _turned(mask, mask.affine, to_truth)
    remaining = np.linalg.inv(truth.affine) @ axes
    wanted = truth.labels.shape
    if turned.labels.shape == _solid(wanted) and _is_identity(remaining, _solid(wanted)):
        flat = _each(turned, lambda values: values.reshape(wanted))
        return flat, "" if np.array_equal(axes, mask.affine) else _how(mask.affine, truth.affine)
    difference = _difference(turned.labels.shape, axes, _solid(wanted), truth.affine)
    if resample:
        to_mask = np.linalg.inv(axes) @ truth.affine
        fitted = _each(turned, lambda values: _nearest_voxel(values, to_mask, wanted))
        return fitted, f"resampled by the nearest voxel where the headers place it: {difference}"
    raise DataError(
        f"its voxels are not the truth's: {difference}; --resample nearest brings them there, --ignore-headers goes by "
        "their order, if the header is wrong"
    )


def resize_nearest(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Labels brought to another size; every new pixel takes the old pixel its centre falls into."""
    for axis, size in enumerate(shape):
        old = labels.shape[axis]
        labels = labels.take(((np.arange(size) + 0.5) * old / size).astype(np.intp), axis=axis)
    return labels


def _fit_by_size(mask: Mask, truth: Mask, *, resample: bool) -> tuple[Mask, str]:
    shape, wanted = mask.labels.shape, truth.labels.shape
    if shape == wanted:
        return mask, ""
    if not resample or len(shape) != len(wanted):
        turned = " (turned by 90 degrees?)" if shape == wanted[::-1] else ""
        raise DataError(
            f"is {_size(shape)}, the truth {_size(wanted)}{turned}; --resample nearest fits it to the truth"
        )
    note = f"resampled from {_size(shape)} to {_size(wanted)} by the nearest pixel"
    return _each(mask, lambda values: resize_nearest(values, wanted)), note


def _voxel_to_voxel(affine: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(4, 4) from a voxel index of one volume to that of another."""
    if not all(abs(np.linalg.det(matrix[:3, :3])) > 1e-12 for matrix in (affine, wanted)):
        raise DataError("its header or the truth's gives a voxel no volume (singular affine); correct the header")
    return np.linalg.inv(wanted) @ affine


def _turned(mask: Mask, affine: np.ndarray, to_truth: np.ndarray) -> tuple[Mask, np.ndarray]:
    """The volume, of three axes, in the truth's order and direction, and where that puts its voxels."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    solid, axes = _solid(mask.labels.shape), io_orientation(to_truth)
    if np.array_equal(axes, [[0, 1], [1, 1], [2, 1]]):
        return _each(mask, lambda values: values.reshape(solid)), affine
    turned = _each(mask, lambda values: np.ascontiguousarray(apply_orientation(values.reshape(solid), axes)))
    return turned, affine @ inv_ornt_aff(axes, solid)


def _how(affine: np.ndarray, wanted: np.ndarray) -> str:
    from nibabel.orientations import aff2axcodes

    old, new = "".join(aff2axcodes(affine)), "".join(aff2axcodes(wanted))
    return f"reoriented from {old} to {new}, no value changed"


def _is_identity(mapping: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether no corner of the grid is moved."""
    corners = np.array([[*((np.array(shape) - 1) * pick), 1] for pick in np.ndindex(2, 2, 2)])
    return bool(np.abs((mapping - np.eye(4)) @ corners.T).max() < _SAME)


def _difference(shape: tuple[int, ...], affine: np.ndarray, size: tuple[int, ...], wanted: np.ndarray) -> str:
    """The first of what differs: voxel size, number of voxels, direction, position."""
    steps, expected = (np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (affine, wanted))
    if not np.allclose(steps, expected, rtol=_SAME_SPACING):
        return f"{_size(shape)} of {_mm(steps)}, the truth's {_size(size)} of {_mm(expected)}"
    if shape != size:
        return f"{_size(shape)}, the truth's {_size(size)}"
    turn = (affine[:3, :3] / steps) @ np.linalg.inv(wanted[:3, :3] / expected)
    angle = float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
    if angle > 0.01:
        return f"rotated by {angle:.2g} degrees"
    shift = affine[:3, 3] - wanted[:3, 3]
    return f"shifted by {np.linalg.norm(shift):.3g} mm ({', '.join(f'{step:.3g}' for step in shift)})"


def _nearest_voxel(values: np.ndarray, to_values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Values at the voxels of another grid, 0 outside their own; one slice after the other to save memory."""
    result = np.zeros(_solid(shape), dtype=values.dtype)
    plane = np.indices((1, *_solid(shape)[1:])).reshape(3, -1)
    for place in range(len(result)):
        position = to_values[:3, :3] @ (plane + np.array([[place], [0], [0]])) + to_values[:3, 3:]
        index = np.floor(position + 0.5).astype(np.intp)
        inside = ((index >= 0) & (index < np.array(values.shape)[:, None])).all(axis=0)
        result[place].reshape(-1)[inside] = values[tuple(index[:, inside])]
    return result.reshape(shape)


def _solid(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A plane is a volume of one slice."""
    return shape + (1,) * (3 - len(shape))


def _each(mask: Mask, change: Callable[[np.ndarray], np.ndarray]) -> Mask:
    """The mask with the same change to its labels and its instances."""
    instances = None if mask.instances is None else change(mask.instances)
    return replace(mask, labels=change(mask.labels), instances=instances)


def _mm(steps: np.ndarray) -> str:
    return "x".join(f"{step:.4g}" for step in steps) + " mm"


def _size(shape: tuple[int, ...]) -> str:
    return f"{width_by_height(shape)} (width x height)" if len(shape) == 2 else "x".join(map(str, shape))
