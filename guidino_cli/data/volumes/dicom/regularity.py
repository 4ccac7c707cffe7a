"""Do the slices of a series form a regular grid? If not, one sentence with the numbers says why."""

from collections.abc import Sequence

import numpy as np

from guidino_cli.progress import pluralize

MAX_DISTANCE_SHARE, MAX_DISTANCE_MM = 0.01, 0.05
"""A distance of two slices may differ from the others by this share of it, and by no more than these millimetres."""
MAX_TILT_DEGREES = 0.5
_MAX_DRIFT = 0.1
"""How far a slice may lie from its place at equal distances, as a share of the distance."""
SAME_POSITION_MM = 0.01
"""Slices nearer than this lie at the same position: no scanner cuts thinner."""


def slice_normal(orientation: Sequence[float]) -> np.ndarray:
    """Unit vector (LPS) across the slices: the direction of a row times that of a column."""
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(normal / np.linalg.norm(normal))


def count_positions(offsets: np.ndarray) -> np.ndarray:
    """Numbers of slices at each position along the normal, from sorted offsets in mm."""
    if not len(offsets):
        return np.zeros(0, dtype=int)
    starts = np.flatnonzero(np.diff(offsets, prepend=-np.inf) > SAME_POSITION_MM)
    return np.diff([*starts, len(offsets)])


def describe_irregularity(positions: np.ndarray, normal: np.ndarray) -> str:
    """Why slices are no regular grid; "" if they are.

    Args:
        positions: (N, 3) first pixel of each slice in mm, in the order along the normal.
        normal: From `slice_normal`.
    """
    if len(positions) < 2:
        return ""
    offsets = positions @ normal
    counts = count_positions(offsets)
    if counts.max() > 1:
        return _describe_repeats(counts)
    found = [_describe_tilt(positions, normal), _describe_distances(np.diff(offsets))]
    return "; ".join(filter(None, found))


def _describe_repeats(counts: np.ndarray) -> str:
    total, places = int(counts.sum()), len(counts)
    each = f"{counts[0]} at each" if len(set(counts.tolist())) == 1 else f"up to {counts.max()} at one"
    return (
        f"{total} slices lie at {pluralize(places, 'position')} ({each}): files that come twice, or several volumes "
        "that neither echo time, b-value, time, acquisition nor image type tells apart"
    )


def _describe_tilt(positions: np.ndarray, normal: np.ndarray) -> str:
    way = positions[-1] - positions[0]
    length = float(np.linalg.norm(way))
    angle = float(np.degrees(np.arccos(np.clip(abs(way @ normal) / length, 0, 1))))
    if angle > MAX_TILT_DEGREES:
        return f"the slices are tilted by {angle:.1f} degrees against their stack (gantry tilt)"
    line = way / length
    steps = positions - positions[0]
    aside = float(np.linalg.norm(steps - np.outer(steps @ line, line), axis=1).max())
    if aside > MAX_DISTANCE_MM:
        return f"the slices are shifted sideways by up to {aside:.2f} mm"
    return ""


def _describe_distances(distances: np.ndarray) -> str:
    # Of two distances the smaller one is usual, and the other has a gap.
    usual = float(np.sort(distances)[(len(distances) - 1) // 2])
    # Positions are decimal texts: 0.05 mm may be a hair more as a difference.
    allowed = min(MAX_DISTANCE_SHARE * usual, MAX_DISTANCE_MM) + 1e-6
    if (np.abs(distances - usual) <= allowed).all():
        # Small differences of one sign add up.
        drift = float(np.abs(np.cumsum(distances - distances.mean())).max())
        if drift > _MAX_DRIFT * usual:
            return f"the distances of its slices drift from {distances[0]:.3f} to {distances[-1]:.3f} mm"
        return ""
    steps = np.round(distances / usual)
    if (steps >= 1).all() and (np.abs(distances - steps * usual) <= allowed * steps).all():
        missing, first = int((steps - 1).sum()), int(np.flatnonzero(steps > 1)[0])
        return (
            f"{pluralize(missing, 'slice')} {'is' if missing == 1 else 'are'} missing: {distances[first]:.2f} mm from "
            f"slice {first + 1} to {first + 2} of {len(distances) + 1}, {usual:.2f} mm elsewhere"
        )
    return f"the distances of its slices differ: {_list_distances(distances)} mm, expected equal ones"


def _list_distances(distances: np.ndarray) -> str:
    different = sorted({round(float(distance), 2) for distance in distances})
    if len(different) <= 4:
        return ", ".join(f"{distance:.2f}" for distance in different)
    return f"{different[0]:.2f} to {different[-1]:.2f}, {np.median(distances):.2f} in the middle"
