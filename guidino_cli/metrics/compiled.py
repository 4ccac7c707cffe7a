"""Binding of the compiled kernel for surface distances; absent from wheels built without a C compiler."""

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_LIBRARY = Path(__file__).with_name("bitwalk.so")
"""Made from `bitwalk.c` by `build_kernel.py` when the package is built or installed."""
_ROWS_2D, _ROWS_3D = 513, 320
"""Rows searched around a pixel before a k-d tree takes over: 512 up and down in an image, 320 lines in a volume."""

_CAPACITY = 1 << 14
"""Edge pixels allocated at first; if there are more, the kernel returns their number and is called again."""
_TOO_SMALL = 2
_CLOSE = 3
"""Pixels to each side whose neighbours are found for a whole word at once."""
_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
_SEARCH = [_POINTER, _POINTER, _POINTER, _LONG, _POINTER, _POINTER, _LONG, ctypes.c_double]
_ARGUMENTS: list[Any] = [*[_POINTER] * 3, *[_LONG] * 3, _INT, _INT, *_SEARCH, _LONG, *[_POINTER] * 3]


@cache
def load_kernel() -> ctypes.CDLL | None:
    """Load the compiled library; None if there is none (no compiler, Windows) or GUIDINO_KERNEL=off."""
    if os.environ.get("GUIDINO_KERNEL", "").lower() in {"off", "0", "no"}:
        return None
    try:
        library = ctypes.CDLL(str(_LIBRARY))
        # A library of another version exports another name: better none than a wrong call.
        library.measure_borders.restype = ctypes.c_int
        library.measure_borders.argtypes = _ARGUMENTS
    except (OSError, AttributeError):
        return None
    return library


def surface_distances(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float],
    *,
    ignored: np.ndarray | None = None,
    inside_is_zero: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Distances in both directions; arguments as for `surface.surface_distances`.

    Returns:
        forward, backward, and the flat indices of the edge pixels of the prediction and of the truth that are too far
        from the other edge for the search; None without a kernel or enough memory.
    """
    library = load_kernel()
    if library is None or prediction.ndim not in (2, 3):
        return None
    masks = [np.ascontiguousarray(mask) for mask in (prediction, truth, *(() if ignored is None else (ignored,)))]
    places = [mask.ctypes.data for mask in masks] + [None] * (3 - len(masks))
    shape, steps = (1,) * (3 - truth.ndim) + truth.shape, (1.0,) * (3 - truth.ndim) + tuple(map(float, spacing))
    offsets = _search_offsets(steps, truth.ndim == 2)
    limit = offsets.limit
    if truth.ndim == 2 and shape[1] <= _ROWS_2D:
        limit = np.inf  # All rows are searched.
    sizes, capacity = (ctypes.c_int64 * 4)(), _CAPACITY
    for _ in range(2):
        distances = np.empty(capacity)
        unsettled = np.empty(capacity if np.isfinite(limit) else 0, dtype=np.int64)
        outputs = distances.ctypes.data, unsettled.ctypes.data, sizes
        flags = truth.ndim == 2, inside_is_zero
        status = library.measure_borders(*places, *shape, *flags, *offsets.arguments, limit, capacity, *outputs)
        capacity = sizes[0] + sizes[1]
        if status != _TOO_SMALL:
            break
    return None if status else _split(distances, unsettled, *sizes)


def _split(
    distances: np.ndarray, unsettled: np.ndarray, first: int, second: int, open_first: int, open_second: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Slice the kernel's two arrays by mask."""
    forward, backward = distances[: first - open_first], distances[first : first + second - open_second]
    return forward, backward, unsettled[:open_first], unsettled[first : first + open_second]


@dataclass(frozen=True)
class _SearchOffsets:
    """Offsets that the kernel searches around a pixel, in order of distance.

    Attributes:
        arguments: Pointers and counts in the order of the C function.
        limit: Squared distance of the first row not searched.
        arrays: What the pointers point to.
    """

    arguments: tuple[int, ...]
    limit: float
    arrays: tuple[np.ndarray, ...]


@cache
def _search_offsets(spacing: tuple[float, ...], flat: bool) -> _SearchOffsets:
    pixels, pixel_squares = _pixels(spacing, flat)
    rows, row_squares, limit = _rows(spacing[0], spacing[1], flat)
    arrays = (np.array(spacing), pixels, pixel_squares, rows, row_squares)
    places = [array.ctypes.data for array in arrays]
    return _SearchOffsets((*places[:3], len(pixel_squares), *places[3:], len(row_squares)), limit, arrays)


def _pixels(spacing: tuple[float, ...], flat: bool) -> tuple[np.ndarray, np.ndarray]:
    """Offsets of the pixels nearby and their squared distances, complete up to the last distance."""
    reach = [np.arange(1)] if flat else [np.arange(-_CLOSE, _CLOSE + 1)]
    steps = np.stack(np.meshgrid(*reach, *[np.arange(-_CLOSE, _CLOSE + 1)] * 2, indexing="ij"), -1).reshape(-1, 3)
    parts = (steps * np.asarray(spacing)) ** 2
    squares = parts[:, 0] + parts[:, 1] + parts[:, 2]  # The kernel adds in this order.
    nearest_outside = (_CLOSE + 1) * min(spacing[1:] if flat else spacing)
    order = np.argsort(squares, kind="stable")
    order = order[(squares[order] > 0) & (squares[order] < nearest_outside**2)]
    return np.ascontiguousarray(steps[order], dtype=np.int32), np.ascontiguousarray(squares[order])


@cache
def _rows(depth_step: float, height_step: float, flat: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Offsets of the nearest rows in order of distance, their squared distances, and that of the next row."""
    if flat:
        down, across, most = np.zeros(1, dtype=np.int64), np.arange(-_ROWS_2D, _ROWS_2D + 1), 2 * _ROWS_2D - 1
    else:
        # A circle that holds this many lines has this radius; the square around it contains the nearest ones.
        reach = 1.5 * (_ROWS_3D * depth_step * height_step / np.pi) ** 0.5 + depth_step + height_step
        down, across = (np.arange(-int(reach / step), int(reach / step) + 1) for step in (depth_step, height_step))
        most = _ROWS_3D
    steps = np.stack(np.meshgrid(down, across, indexing="ij"), axis=-1).reshape(-1, 2)
    squares = (steps[:, 0] * depth_step) ** 2 + (steps[:, 1] * height_step) ** 2
    order = np.argsort(squares, kind="stable")
    nearest = order[:most]
    limit = float(squares[order[most]])
    return np.ascontiguousarray(steps[nearest], dtype=np.int32), np.ascontiguousarray(squares[nearest]), limit
