"""The compiled kernel for border distances: in wheels built where there was a C compiler, silently absent elsewhere."""

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

_LIBRARY = Path(__file__).with_name("bitwalk.so")
"""Made from `bitwalk.c` by `build_kernel.py` when the package is built or installed."""
_ROWS_2D, _ROWS_3D = 513, 320
"""Rows visited around a pixel before the rest is left to a tree: 512 up and down in an image, 320 lines in a volume."""


@cache
def kernel() -> ctypes.CDLL | None:
    """The compiled library, or None where there is none (built without a compiler, Windows, GUIDINO_KERNEL=off)."""
    if os.environ.get("GUIDINO_KERNEL", "").lower() in {"off", "0", "no"}:
        return None
    try:
        library = ctypes.CDLL(str(_LIBRARY))
        library.border_distances.restype = ctypes.c_int
    except (OSError, AttributeError):
        return None
    return library


def border_distances(
    prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float], *, inside_is_zero: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Distances of both directions, as `surface.border_distances`.

    Args:
        prediction: Boolean, two or three axes, not empty.
        truth: Boolean, the same shape, not empty.
        spacing: Pixel size along each axis.
        inside_is_zero: Pixels inside the other mask are 0 away, not only those on its border.

    Returns:
        forward, backward, and the flat positions of the border pixels of the prediction and of the truth that are too
        far from the other border for the walk; None if the kernel is not there or there is no memory for it.
    """
    library = kernel()
    if library is None or prediction.ndim not in (2, 3):
        return None
    masks = [np.ascontiguousarray(mask).view(np.uint8) for mask in (prediction, truth)]
    shape, steps = (1,) * (3 - truth.ndim) + truth.shape, (1.0,) * (3 - truth.ndim) + tuple(map(float, spacing))
    offsets, squares, limit = _rows(steps[0], steps[1], truth.ndim == 2)
    if truth.ndim == 2 and shape[1] <= _ROWS_2D:
        limit = np.inf  # There are no other rows.
    most = [int(np.count_nonzero(mask)) for mask in masks]
    distances = [np.empty(size) for size in most]
    unsettled = [np.empty(size if np.isfinite(limit) else 0, dtype=np.int64) for size in most]
    sizes = np.zeros(4, dtype=np.int64)
    failed = library.border_distances(
        *map(_pointer, masks),
        *map(ctypes.c_long, shape),
        ctypes.c_int(truth.ndim == 2),
        ctypes.c_int(inside_is_zero),
        _pointer(np.array(steps)),
        _pointer(offsets),
        _pointer(squares),
        ctypes.c_long(len(squares)),
        ctypes.c_double(limit),
        *map(_pointer, distances),
        *map(_pointer, unsettled),
        _pointer(sizes),
    )
    if failed:
        return None
    forward, backward, open_forward, open_backward = (
        array[:size] for array, size in zip([*distances, *unsettled], sizes.tolist(), strict=True)
    )
    return forward, backward, open_forward, open_backward


@cache
def _rows(depth_step: float, height_step: float, flat: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Steps to the nearest rows around a pixel in order of distance, their squared distances, that of the next one."""
    if flat:
        down, across, most = np.zeros(1, dtype=np.int64), np.arange(-_ROWS_2D, _ROWS_2D + 1), 2 * _ROWS_2D - 1
    else:
        # A circle that holds this many lines has this radius; the square around it holds the nearest ones for certain.
        reach = 1.5 * (_ROWS_3D * depth_step * height_step / np.pi) ** 0.5 + depth_step + height_step
        down, across = (np.arange(-int(reach / step), int(reach / step) + 1) for step in (depth_step, height_step))
        most = _ROWS_3D
    steps = np.stack(np.meshgrid(down, across, indexing="ij"), axis=-1).reshape(-1, 2)
    squares = (steps[:, 0] * depth_step) ** 2 + (steps[:, 1] * height_step) ** 2
    order = np.argsort(squares, kind="stable")
    nearest = order[:most]
    limit = float(squares[order[most]])
    return np.ascontiguousarray(steps[nearest], dtype=np.int32), np.ascontiguousarray(squares[nearest]), limit


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)
