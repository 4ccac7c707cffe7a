"""Mask edges and short distances on masks packed into 64-bit words; the fallback for the compiled kernel.

One numpy operation handles 64 pixels. Bits lie along the last axis, lowest first; every array has the axes of the
mask, the last one counted in words.
"""

from dataclasses import dataclass
from functools import cache, lru_cache, reduce
from itertools import product

import numpy as np

WORD = np.dtype("<u8")
_MAX_OFFSETS = 130
"""Offsets in one quadrant (octant) beyond which a k-d tree is faster."""
_MIN_HITS = 25
"""Points for which a k-d tree costs about as much as one ring, for a small mask."""
_FIRST_SEARCH = 1.5
"""Distance in pixels beyond which the search continues only if most points have found a target."""


def pack(mask: np.ndarray) -> np.ndarray:
    """Pack a boolean mask into words; the padding is not set."""
    bits = np.packbits(mask, axis=-1, bitorder="little")
    rest = -bits.shape[-1] % WORD.itemsize
    if rest:
        bits = np.concatenate((bits, np.zeros((*bits.shape[:-1], rest), dtype=np.uint8)), axis=-1)
    return bits.view(WORD)


def set_positions(words: np.ndarray) -> np.ndarray:
    """Coordinates of the set bits, (N, axes) integers."""
    at = np.flatnonzero(words)
    bits = np.unpackbits(words.ravel()[at].view(np.uint8).reshape(-1, WORD.itemsize), axis=1, bitorder="little")
    which = np.flatnonzero(bits.view(bool))  # numpy is several times faster on booleans.
    flat = at[which >> 6] * 64 + (which & 63)
    return np.stack(np.unravel_index(flat, (*words.shape[:-1], words.shape[-1] * 64)), axis=1)


def count_bits(words: np.ndarray) -> int:
    """Number of set bits."""
    return int(np.bitwise_count(words).sum(dtype=np.int64))


def union_box(first: np.ndarray, second: np.ndarray) -> tuple[slice, ...]:
    """Smallest box, in words, that contains both masks; at least one must not be empty."""
    both = first | second
    box: list[slice] = []
    for axis in range(both.ndim):
        # Cropping axis by axis leaves less to scan for the later ones.
        part = both[tuple(box)]
        hit = np.flatnonzero(part.any(axis=tuple(other for other in range(both.ndim) if other != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def mask_edges(words: np.ndarray) -> np.ndarray:
    """The mask minus its erosion by the 4- (6-) neighbour cross; outside the array is background."""
    inner = _shifted(words, 1) & _shifted(words, -1)
    for axis in range(words.ndim - 1):
        view, source = np.moveaxis(inner, axis, 0), np.moveaxis(words, axis, 0)
        view[1:] &= source[:-1]
        view[:-1] &= source[1:]
        view[0] = 0
        view[-1] = 0
    return words & ~inner


def dilate(words: np.ndarray) -> np.ndarray:
    """Dilation by the 4- (6-) neighbour cross."""
    result = words | _shifted(words, 1) | _shifted(words, -1)
    for axis in range(words.ndim - 1):
        view, source = np.moveaxis(result, axis, 0), np.moveaxis(words, axis, 0)
        view[1:] |= source[:-1]
        view[:-1] |= source[1:]
    return result


def short_distances(
    points: np.ndarray, target: np.ndarray, spacing: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances of points with a target nearby, by searching rings of growing radius.

    Args:
        points: Words of the pixels to measure from, none of them a target.
        target: Words of the pixels to measure to.
        spacing: Pixel size along each axis.

    Returns:
        Distances as float64 in no special order, and the words of the points without a target nearby.
    """
    left = total = count_bits(points)
    distances, found, idle = [], [], 0
    beside: dict[int, np.ndarray] = {}
    seen, points = np.empty_like(points), points.copy()
    for ring in _rings(spacing, points.shape[:-1]):
        if not left or idle > 1 or (ring.distance > _FIRST_SEARCH * min(spacing) and left > 0.7 * total):
            break  # Edges far apart, as on a single misplaced lesion: a tree is cheaper.
        seen.fill(0)
        for along, views in ring.steps:
            if along not in beside:
                beside[along] = _shifted(target, along) | _shifted(target, -along)
            for there, here in views:
                seen[there] |= beside[along][here]
        seen &= points
        hits = count_bits(seen)
        idle = 0 if hits > _MIN_HITS + seen.size // 300 else idle + 1
        if hits:
            points ^= seen
            left -= hits
            distances.append(ring.distance)
            found.append(hits)
    return np.repeat(np.asarray(distances, dtype=np.float64), found), points


_Views = list[tuple[tuple[slice, ...], tuple[slice, ...]]]


@dataclass(frozen=True)
class _Ring:
    """All offsets of one length.

    Attributes:
        distance: The length.
        steps: Pixels along the last axis, both ways, and source and target slices of the axes before it.
    """

    distance: float
    steps: list[tuple[int, _Views]]


@lru_cache(maxsize=64)
def _rings(spacing: tuple[float, ...], shape: tuple[int, ...]) -> list[_Ring]:
    """The shortest rings, without gaps. `shape` is that of all axes but the last."""
    return [
        _Ring(distance, [(step[-1], _views(step[:-1], shape)) for step in steps]) for distance, steps in _steps(spacing)
    ]


@cache
def _steps(spacing: tuple[float, ...]) -> list[tuple[float, list[tuple[int, ...]]]]:
    """Offsets by length; of mirror images only the one without negative components."""
    reach = 60 if len(spacing) == 1 else 24 if len(spacing) == 2 else 8
    steps = np.asarray(list(product(range(reach + 1), repeat=len(spacing))))
    squares = reduce(np.add, ((steps * np.asarray(spacing)) ** 2).T)
    order = np.argsort(squares, kind="stable")[1 : _MAX_OFFSETS + 2]
    limit = min(squares[order[-1]], ((reach + 1) * min(spacing)) ** 2)
    distinct = np.unique(squares[order][squares[order] < limit])
    return [
        (float(np.sqrt(square)), [tuple(step) for step in steps[squares == square].tolist()]) for square in distinct
    ]


def _views(step: tuple[int, ...], shape: tuple[int, ...]) -> _Views:
    """(target, source) slices that shift an array by the step and its mirror images; none if it leaves the array."""
    if any(size >= length for size, length in zip(step, shape, strict=True)):
        return []
    moves = product(*[(size, -size) if size else (0,) for size in step])
    return [
        (
            tuple(slice(max(size, 0), None if size >= 0 else size) for size in move),
            tuple(slice(max(-size, 0), None if size <= 0 else -size) for size in move),
        )
        for move in moves
    ]


def _shifted(words: np.ndarray, by: int) -> np.ndarray:
    """Shift all pixels along the last axis; those that leave the array are lost."""
    if by == 0:
        return words
    high, low = np.uint64(abs(by)), np.uint64(64 - abs(by))
    if by > 0:
        moved = words << high
        moved[..., 1:] |= words[..., :-1] >> low
    else:
        moved = words >> high
        moved[..., :-1] |= words[..., 1:] << low
    return moved
