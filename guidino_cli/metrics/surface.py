"""Distances between the borders of two masks: Hausdorff, its 95th percentile, averages, and agreement at a tolerance.

The border of a mask is medpy's: its pixels with at least one of the 4 (6 in 3-D) neighbours outside the mask, where
everything beyond the image counts as outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from guidino_cli.metrics import compiled

Definition = Literal["pooled", "max"]

_REACH = 3
"""Pixels to each side that are looked at before a tree is built."""
_FIRST_LOOK = 1.5
"""Pixels after which looking goes on only if it finds something."""


@dataclass(frozen=True)
class BorderDistances:
    """Distance of every border pixel to the nearest border pixel of the other mask, in the unit of the spacing.

    Attributes:
        forward: From the prediction to the truth, one number per border pixel of the prediction, in no special order.
        backward: From the truth to the prediction.
    """

    forward: np.ndarray
    backward: np.ndarray


def border_distances(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float],
    *,
    ignored: np.ndarray | None = None,
    inside_is_zero: bool = False,
) -> BorderDistances:
    """Measure both directions at once; every figure of this file is computed from the result.

    Args:
        prediction: Boolean mask of any dimension, not empty.
        truth: Boolean mask of the same shape, not empty.
        spacing: Pixel size along each axis of the array.
        ignored: Pixels that do not count (both masks are False there); border pixels that touch one are not
            measured, since the border there is where the label ends, not where the object does.
        inside_is_zero: Measure to the other mask instead of its border, so that border pixels inside it get 0. This is
            what the GuiDINO authors' code does; it is here to reproduce their table.

    Returns:
        Distances as float64; a direction has no element if all its border pixels touch ignored ones.

    Raises:
        ValueError: If shapes or the number of spacings differ, or a mask is empty.
    """
    if prediction.shape != truth.shape or len(spacing) != truth.ndim:
        raise ValueError(f"shapes {prediction.shape} and {truth.shape} with {len(spacing)} spacings do not fit")
    if not (prediction.any() and truth.any()):
        raise ValueError("a mask is empty: there is no border to measure")
    if ignored is None or not ignored.any():
        found = _by_kernel(prediction, truth, spacing, inside_is_zero=inside_is_zero)
        if found is not None:
            return found
    return _by_tree(prediction, truth, spacing, ignored=ignored, inside_is_zero=inside_is_zero)


def _by_kernel(
    prediction: np.ndarray, truth: np.ndarray, spacing: Sequence[float], *, inside_is_zero: bool
) -> BorderDistances | None:
    """With the compiled kernel; what it leaves open, far islands, goes to a tree. None without the kernel."""
    if truth.ndim == 3:
        # Cropping pays only where the volume is much larger than the object; packing a whole image is cheaper.
        box = union_box(prediction, truth)
        prediction, truth = prediction[box], truth[box]
    found = compiled.border_distances(prediction, truth, spacing, inside_is_zero=inside_is_zero)
    if found is None:
        return None
    forward, backward, open_forward, open_backward = found
    if len(open_forward):
        forward = np.concatenate((forward, _from_positions(open_forward, truth, spacing)))
    if len(open_backward):
        backward = np.concatenate((backward, _from_positions(open_backward, prediction, spacing)))
    return BorderDistances(forward, backward)


def _from_positions(positions: np.ndarray, target: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    points = np.stack(np.unravel_index(positions, target.shape), axis=1)
    return _query(points, np.argwhere(border(target)), spacing)


def _by_tree(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float],
    *,
    ignored: np.ndarray | None,
    inside_is_zero: bool,
) -> BorderDistances:
    """With numpy and a tree of the border pixels."""
    box = union_box(prediction, truth)
    masks = (prediction[box], truth[box])
    borders = sources = [border(mask) for mask in masks]
    if ignored is not None and ignored.any():
        # The pixels around the box matter too: an ignored pixel may touch the object from outside its box.
        away = ~_grown(ignored)[box]
        sources = [edge & away for edge in borders]
    zero = masks if inside_is_zero else borders
    forward = _nearest(sources[0], borders[1], zero=zero[1], spacing=spacing)
    backward = _nearest(sources[1], borders[0], zero=zero[0], spacing=spacing)
    return BorderDistances(forward, backward)


def union_box(prediction: np.ndarray, truth: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds both masks; borders inside it are those of the whole image."""
    boxes = [_box(mask) for mask in (prediction, truth)]
    if None in boxes:
        raise ValueError("a mask is empty: there is no border to measure")
    first, second = boxes
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))  # type: ignore[arg-type]


def border(mask: np.ndarray) -> np.ndarray:
    """The mask without its erosion by the cross; outside the array is background."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        view, source = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        view[1:] &= source[:-1]
        view[:-1] &= source[1:]
        view[0] = False
        view[-1] = False
    return mask & ~inner


def hausdorff95(distances: BorderDistances, definition: Definition = "pooled") -> float:
    """95th percentile with linear interpolation.

    "pooled" takes it over both directions together (`medpy.metric.binary.hd95`, the usual one in papers' tables); "max"
    is the larger of the two directed percentiles (MONAI, Metrics Reloaded). NaN if there is nothing to measure.
    """
    if definition == "pooled":
        return _percentile(np.concatenate((distances.forward, distances.backward)), 95.0)
    return max(_percentile(distances.forward, 95.0), _percentile(distances.backward, 95.0))


def hausdorff(distances: BorderDistances) -> float:
    """The largest distance of either direction; NaN if there is nothing to measure."""
    pooled = np.concatenate((distances.forward, distances.backward))
    return float(pooled.max()) if pooled.size else float("nan")


def average_distance(distances: BorderDistances) -> float:
    """ASD: mean from the prediction to the truth, one direction only, as `medpy.metric.binary.asd`."""
    return _mean(distances.forward)


def average_symmetric_distance(distances: BorderDistances) -> float:
    """ASSD: mean over both directions pooled, as `medpy.metric.binary.assd` of version 0.5."""
    return _mean(np.concatenate((distances.forward, distances.backward)))


def surface_dice(distances: BorderDistances, tolerance: float) -> float:
    """NSD: share of the border pixels of both masks within `tolerance` of the other border; NaN without any."""
    # Spacings such as 0.1 make 3 * 0.1 exceed 0.3 by one rounding step; the tolerance is meant inclusively.
    limit = tolerance * (1 + 1e-12)
    close = np.count_nonzero(distances.forward <= limit) + np.count_nonzero(distances.backward <= limit)
    total = distances.forward.size + distances.backward.size
    return close / total if total else float("nan")


def _nearest(source: np.ndarray, target: np.ndarray, *, zero: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Distances of the source points to the target points; those in `zero` are 0 without a search."""
    distances = np.zeros(int(np.count_nonzero(source)))
    away = np.flatnonzero(np.pad(source & ~zero, _REACH))
    near, away = _look_around(away, target, spacing)
    distances[: len(near)] = near
    if len(away):
        points = np.stack(np.unravel_index(away, [size + 2 * _REACH for size in target.shape]), axis=1) - _REACH
        distances[len(near) : len(near) + len(away)] = _query(points, np.argwhere(target), spacing)
    return distances


def _look_around(points: np.ndarray, target: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Distances of the points that have a target close by, and the points that have none.

    On crowded or thin masks most borders are a few pixels apart, and looking is several times cheaper than a tree.

    Args:
        points: Flat positions in the target's grid padded by `_REACH`.
        target: Boolean mask.
        spacing: Pixel size along each axis.
    """
    padded = np.pad(target, _REACH)
    found: list[np.ndarray] = []
    total = len(points)
    for distance, steps in _rings(tuple(map(float, spacing))):
        if not len(points) or (distance > _FIRST_LOOK * min(spacing) and len(points) > 0.7 * total):
            break  # Borders far apart, as on a single badly placed lesion: the tree will be cheaper.
        hit = np.zeros(len(points), dtype=bool)
        for step in steps:
            hit |= padded.ravel()[points + int(np.dot(step, padded.strides))]
        found.append(np.full(int(np.count_nonzero(hit)), distance))
        points = points[~hit]
    return np.concatenate(found) if found else np.empty(0), points


@cache
def _rings(spacing: tuple[float, ...]) -> list[tuple[float, np.ndarray]]:
    """Steps to the pixels around one, gathered by distance; complete up to the distance of the last ring."""
    steps = np.stack(np.meshgrid(*[np.arange(-_REACH, _REACH + 1)] * len(spacing), indexing="ij"), -1)
    steps = steps.reshape(-1, len(spacing))
    squares = ((steps * np.asarray(spacing)) ** 2).sum(axis=1)
    # Pixels outside the box begin here, so rings beyond are not complete.
    limit = ((_REACH + 1) * min(spacing)) ** 2
    distances = np.unique(squares[(squares > 0) & (squares < limit)])
    return [(float(np.sqrt(square)), steps[squares == square]) for square in distances]


def _query(points: np.ndarray, goals: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    from scipy.spatial import cKDTree

    scale = np.asarray(spacing, dtype=np.float64)
    tree = cKDTree(goals * scale, balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(points * scale)[0])


def _box(mask: np.ndarray) -> tuple[slice, ...] | None:
    sides: list[slice] = []
    for axis in range(mask.ndim):
        # Cutting axis by axis makes each later look shorter.
        part = mask[tuple(sides)]
        hit = np.flatnonzero(part.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(hit):
            return None
        sides.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(sides)


def _grown(mask: np.ndarray) -> np.ndarray:
    """The mask and its 4 (6) neighbours."""
    grown = mask.copy()
    for axis in range(mask.ndim):
        view, source = np.moveaxis(grown, axis, 0), np.moveaxis(mask, axis, 0)
        view[1:] |= source[:-1]
        view[:-1] |= source[1:]
    return grown


def _percentile(values: np.ndarray, q: float) -> float:
    """As numpy's with linear interpolation, to the last bit, without its overhead."""
    if not values.size:
        return float("nan")
    place = (values.size - 1) * (q / 100)
    below = int(place)
    above = min(below + 1, values.size - 1)
    low, high = np.partition(values, (below, above))[[below, above]]
    share = place - below
    # numpy measures from the nearer end, which rounds differently.
    return float(high - (high - low) * (1 - share) if share >= 0.5 else low + (high - low) * share)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
