"""Surface metrics: Hausdorff distance, its 95th percentile, average surface distances, normalized surface Dice.

The edge of a mask is defined as in medpy: its pixels with at least one of the 4 (6 in 3-D) neighbours outside the
mask; everything beyond the image counts as outside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from guidino_cli.metrics import bits, compiled

Hd95Pooling = Literal["pooled", "max"]


@dataclass(frozen=True)
class SurfaceDistances:
    """Distance of every edge pixel to the nearest edge pixel of the other mask, in the unit of the spacing.

    Attributes:
        forward: From the prediction to the truth, one value per edge pixel of the prediction, in no special order.
        backward: From the truth to the prediction.
    """

    forward: np.ndarray
    backward: np.ndarray


def surface_distances(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float],
    *,
    ignored: np.ndarray | None = None,
    inside_is_zero: bool = False,
) -> SurfaceDistances:
    """Distances between the edges of two masks in both directions, from which all surface metrics are computed.

    Args:
        prediction: Boolean mask of any dimension, not empty.
        truth: Boolean mask of the same shape, not empty.
        spacing: Pixel size along each axis of the array.
        ignored: Pixels that do not count (both masks are False there); edge pixels that touch one are not measured,
            since the label ends there, not the object.
        inside_is_zero: Measure to the other mask instead of its edge, so that edge pixels inside it get 0, as in the
            GuiDINO authors' code; needed to reproduce their table.

    Returns:
        Distances as float64; a direction is empty if all its edge pixels touch ignored ones.

    Raises:
        ValueError: If shapes or the number of spacings differ, or a mask is empty.
    """
    if prediction.shape != truth.shape or len(spacing) != truth.ndim:
        raise ValueError(f"shapes {prediction.shape} and {truth.shape} with {len(spacing)} spacings do not fit")
    if not (prediction.any() and truth.any()):
        raise ValueError("a mask is empty: it has no surface")
    if ignored is not None and not ignored.any():
        ignored = None
    found = _by_kernel(prediction, truth, spacing, ignored=ignored, inside_is_zero=inside_is_zero)
    if found is not None:
        return found
    return _by_numpy(prediction, truth, spacing, ignored=ignored, inside_is_zero=inside_is_zero)


def _by_kernel(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float],
    *,
    ignored: np.ndarray | None,
    inside_is_zero: bool,
) -> SurfaceDistances | None:
    """By the compiled kernel, with a k-d tree for the far pixels that it leaves open; None without the kernel."""
    if truth.ndim == 3:
        # Cropping pays off for volumes much larger than the object; packing a whole image is cheaper.
        box = union_box(prediction, truth)
        if ignored is not None:
            # An ignored voxel may touch the object from outside its box.
            box = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
            ignored = ignored[box]
        prediction, truth = prediction[box], truth[box]
    found = compiled.surface_distances(prediction, truth, spacing, ignored=ignored, inside_is_zero=inside_is_zero)
    if found is None:
        return None
    forward, backward, open_forward, open_backward = found
    if len(open_forward):
        forward = np.concatenate((forward, _from_positions(open_forward, truth, spacing)))
    if len(open_backward):
        backward = np.concatenate((backward, _from_positions(open_backward, prediction, spacing)))
    return SurfaceDistances(forward, backward)


def _from_positions(positions: np.ndarray, target: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    points = np.stack(np.unravel_index(positions, target.shape), axis=1)
    return _query(points, np.argwhere(mask_edges(target)), spacing)


def _by_numpy(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float],
    *,
    ignored: np.ndarray | None,
    inside_is_zero: bool,
) -> SurfaceDistances:
    """Near distances by numpy, 64 pixels at a time; far ones by a k-d tree of the edge pixels."""
    masks = [bits.pack(prediction), bits.pack(truth)]
    box = bits.union_box(*masks)
    masks = [mask[box] for mask in masks]
    borders = sources = [bits.mask_edges(mask) for mask in masks]
    if ignored is not None:
        # Dilated before cropping: an ignored pixel may touch the object from outside its box.
        away = ~bits.dilate(bits.pack(ignored))[box]
        sources = [edge & away for edge in borders]
    zero = masks if inside_is_zero else borders
    forward = _nearest(sources[0], borders[1], zero=zero[1], spacing=spacing)
    backward = _nearest(sources[1], borders[0], zero=zero[0], spacing=spacing)
    return SurfaceDistances(forward, backward)


def _nearest(source: np.ndarray, target: np.ndarray, *, zero: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Distances from source to target points, both packed; source points in `zero` are at distance 0."""
    near, away = bits.short_distances(source & ~zero, target, tuple(map(float, spacing)))
    far = np.empty(0)
    if away.any():
        far = _query(bits.set_positions(away), bits.set_positions(target), spacing)
    return np.concatenate((np.zeros(bits.count_bits(source & zero)), near, far))


def union_box(prediction: np.ndarray, truth: np.ndarray) -> tuple[slice, ...]:
    """Smallest box that contains both masks; edges inside it equal those of the whole image."""
    boxes = [_bounding_box(mask) for mask in (prediction, truth)]
    if None in boxes:
        raise ValueError("a mask is empty: it has no surface")
    first, second = boxes
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))  # type: ignore[arg-type]


def mask_edges(mask: np.ndarray) -> np.ndarray:
    """The mask minus its erosion by the 4- (6-) neighbour cross; outside the array is background."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        view, source = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        view[1:] &= source[:-1]
        view[:-1] &= source[1:]
        view[0] = False
        view[-1] = False
    return mask & ~inner


def hausdorff95(distances: SurfaceDistances, definition: Hd95Pooling = "pooled") -> float:
    """95th percentile of the surface distances, with linear interpolation; NaN without any distance.

    "pooled" takes it over both directions together (`medpy.metric.binary.hd95`, the usual one in papers); "max" is the
    larger of the two directed percentiles (MONAI, Metrics Reloaded).
    """
    if definition == "pooled":
        return _percentile(np.concatenate((distances.forward, distances.backward)), 95.0)
    return max(_percentile(distances.forward, 95.0), _percentile(distances.backward, 95.0))


def hausdorff_distance(distances: SurfaceDistances) -> float:
    """Hausdorff distance: the largest of both directions; NaN without any distance."""
    pooled = np.concatenate((distances.forward, distances.backward))
    return float(pooled.max()) if pooled.size else float("nan")


def average_surface_distance(distances: SurfaceDistances) -> float:
    """ASD: mean from the prediction to the truth, one direction only, as `medpy.metric.binary.asd`."""
    return _mean(distances.forward)


def average_symmetric_surface_distance(distances: SurfaceDistances) -> float:
    """ASSD: mean over both directions pooled, as `medpy.metric.binary.assd` of version 0.5."""
    return _mean(np.concatenate((distances.forward, distances.backward)))


def normalized_surface_dice(distances: SurfaceDistances, tolerance: float) -> float:
    """NSD: share of the edge pixels of both masks within `tolerance` of the other edge; NaN without any."""
    # With a spacing of 0.1, 3 * 0.1 exceeds 0.3 by one rounding step; the tolerance is inclusive.
    limit = tolerance * (1 + 1e-12)
    close = np.count_nonzero(distances.forward <= limit) + np.count_nonzero(distances.backward <= limit)
    total = distances.forward.size + distances.backward.size
    return close / total if total else float("nan")


def _query(points: np.ndarray, goals: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    from scipy.spatial import cKDTree

    scale = np.asarray(spacing, dtype=np.float64)
    # Large leaves build faster, small ones query faster.
    leaf = 64 if len(goals) > 10 * len(points) else 16
    tree = cKDTree(goals * scale, balanced_tree=False, compact_nodes=False, leafsize=leaf)
    return np.asarray(tree.query(points * scale)[0])


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    sides: list[slice] = []
    for axis in range(mask.ndim):
        # Cropping axis by axis leaves less to scan for the later ones.
        part = mask[tuple(sides)]
        hit = np.flatnonzero(part.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(hit):
            return None
        sides.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(sides)


def _percentile(values: np.ndarray, q: float) -> float:
    """Bitwise equal to `np.percentile` with linear interpolation, without its overhead."""
    if not values.size:
        return float("nan")
    position = (values.size - 1) * (q / 100)
    below = int(position)
    above = min(below + 1, values.size - 1)
    low, high = np.partition(values, (below, above))[[below, above]]
    share = position - below
    # numpy interpolates from the nearer end, which rounds differently.
    return float(high - (high - low) * (1 - share) if share >= 0.5 else low + (high - low) * share)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
