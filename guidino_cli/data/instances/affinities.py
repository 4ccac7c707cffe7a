"""Nearest-neighbour affinities: for each pixel and axis, whether it belongs to the instance of the pixel before."""

import numpy as np


def affinities_of_labels(labels: np.ndarray) -> np.ndarray:
    """True affinities of an instance map: a_d(x) = 1 where l(x) = l(x - e_d) and l(x) > 0, else 0.

    The first plane of axis d has no neighbour before it: its a_d is 0, and training leaves it out.

    Args:
        labels: Instance numbers (Y, X) or (Z, Y, X), 0 is the background.

    Returns:
        (A, ...) float32, an affinity for each of the A axes.
    """
    affinities = np.zeros((labels.ndim, *labels.shape), dtype=np.float32)
    for axis in range(labels.ndim):
        ends, starts = links(labels.ndim, axis)
        affinities[axis][ends] = (labels[ends] == labels[starts]) & (labels[ends] > 0)
    return affinities


def links(axes: int, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The pixels that have one before them along an axis, and those that are before them."""
    ends = tuple(slice(1, None) if number == axis else slice(None) for number in range(axes))
    starts = tuple(slice(None, -1) if number == axis else slice(None) for number in range(axes))
    return ends, starts


def incident_mean(affinities: np.ndarray) -> np.ndarray:
    """Mean affinity of each pixel to its 2 A neighbours; those outside the image do not count. Float32 in [0, 1]."""
    axes = len(affinities)
    total, count = (np.zeros(affinities.shape[1:], dtype=np.float32) for _ in range(2))
    for axis, values in enumerate(affinities):
        ends, starts = links(axes, axis)
        for side in (ends, starts):
            total[side] += values[ends]
            count[side] += 1
    return total / np.maximum(count, 1)


def incident_maximum(affinities: np.ndarray) -> np.ndarray:
    """Largest affinity of each pixel to any of its neighbours; 0 for a single pixel."""
    axes = len(affinities)
    largest = np.zeros(affinities.shape[1:], dtype=np.float32)
    for axis, values in enumerate(affinities):
        ends, starts = links(axes, axis)
        for side in (ends, starts):
            np.maximum(largest[side], values[ends], out=largest[side])
    return largest
