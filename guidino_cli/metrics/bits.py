"""Borders and short distances without compiled code: masks as 64-bit words, so that one numpy step does 64 pixels.

Bits lie along the last axis, lowest first; every array here has the axes of the mask, the last one in words.
"""

from dataclasses import dataclass
from functools import cache, lru_cache, reduce
from itertools import product

import numpy as np

WORD = np.dtype("<u8")
_MOST_STEPS = 130
"""Steps in one quadrant (octant) after which looking around costs more than a tree."""
_WORTH_A_RING = 25
"""Points found that cost a tree about as much as a ring costs, for a small mask."""
_FIRST_LOOK = 1.5
"""Pixels after which looking goes on only if it finds something."""


def pack(mask: np.ndarray) -> np.ndarray:
    """A boolean mask as words; pixels beyond the last one are not set."""
    bits = np.packbits(mask, axis=-1, bitorder="little")
    rest = -bits.shape[-1] % WORD.itemsize
    if rest:
        bits = np.concatenate((bits, np.zeros((*bits.shape[:-1], rest), dtype=np.uint8)), axis=-1)
    return bits.view(WORD)


def set_positions(words: np.ndarray) -> np.ndarray:
    """Coordinates of the set bits, (N, axes)."""
    at = np.flatnonzero(words)
    bits = np.unpackbits(words.ravel()[at].view(np.uint8).reshape(-1, WORD.itemsize), axis=1, bitorder="little")
    which = np.flatnonzero(bits.view(bool))  # numpy is several times faster on truth values.
    flat = at[which >> 6] * 64 + (which & 63)
    return np.stack(np.unravel_index(flat, (*words.shape[:-1], words.shape[-1] * 64)), axis=1)


def count_bits(words: np.ndarray) -> int:
    """How many bits are set."""
    return int(np.bitwise_count(words).sum(dtype=np.int64))


def union_box(first: np.ndarray, second: np.ndarray) -> tuple[slice, ...]:
    """The smallest box of words that holds both masks, of which one is not empty."""
    both = first | second
    box: list[slice] = []
    for axis in range(both.ndim):
        # Cutting axis by axis makes each later look shorter.
        part = both[tuple(box)]
        hit = np.flatnonzero(part.any(axis=tuple(other for other in range(both.ndim) if other != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def mask_edges(words: np.ndarray) -> np.ndarray:
    """The mask without its erosion by the cross; outside the array is background."""
    inner = _shifted(words, 1) & _shifted(words, -1)
    for axis in range(words.ndim - 1):
        view, source = np.moveaxis(inner, axis, 0), np.moveaxis(words, axis, 0)
        view[1:] &= source[:-1]
        view[:-1] &= source[1:]
        view[0] = 0
        view[-1] = 0
    return words & ~inner


def dilate(words: np.ndarray) -> np.ndarray:
    """The mask and its 4 (6) neighbours."""
    result = words | _shifted(words, 1) | _shifted(words, -1)
    for axis in range(words.ndim - 1):
        view, source = np.moveaxis(result, axis, 0), np.moveaxis(words, axis, 0)
        view[1:] |= source[:-1]
        view[:-1] |= source[1:]
    return result


def short_distances(
    points: np.ndarray, target: np.ndarray, spacing: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Distances of the points that have a target close by, and the words of the points that have none.

    Args:
        points: Words of the pixels to measure from, none of them a target.
        target: Words of the pixels to measure to.
        spacing: Pixel size along each axis.
    """
    left = total = count_bits(points)
    distances, found, idle = [], [], 0
    beside: dict[int, np.ndarray] = {}
    seen, points = np.empty_like(points), points.copy()
    for ring in _rings(spacing, points.shape[:-1]):
        if not left or idle > 1 or (ring.distance > _FIRST_LOOK * min(spacing) and left > 0.7 * total):
            break  # Borders far apart, as on a single badly placed lesion: the tree will be cheaper.
        seen.fill(0)
        for along, views in ring.steps:
            if along not in beside:
                beside[along] = _shifted(target, along) | _shifted(target, -along)
            for there, here in views:
                seen[there] |= beside[along][here]
        seen &= points
        hits = count_bits(seen)
        idle = 0 if hits > _WORTH_A_RING + seen.size // 300 else idle + 1
        if hits:
            points ^= seen
            left -= hits
            distances.append(ring.distance)
            found.append(hits)
    return np.repeat(np.asarray(distances, dtype=np.float64), found), points


_Views = list[tuple[tuple[slice, ...], tuple[slice, ...]]]


@dataclass(frozen=True)
class _Ring:
    """All steps of one length.

    Attributes:
        distance: The length.
        steps: Pixels along the last axis, both ways, and what goes where along the axes before it.
    """

    distance: float
    steps: list[tuple[int, _Views]]


@lru_cache(maxsize=64)
def _rings(spacing: tuple[float, ...], shape: tuple[int, ...]) -> list[_Ring]:
    """The shortest rings, complete: no shorter step is left out. `shape` is that of the axes before the last."""
    return [
        _Ring(distance, [(step[-1], _views(step[:-1], shape)) for step in steps]) for distance, steps in _steps(spacing)
    ]


@cache
def _steps(spacing: tuple[float, ...]) -> list[tuple[float, list[tuple[int, ...]]]]:
    """Steps by their length; of every set of mirror images the one without a negative part."""
    reach = 60 if len(spacing) == 1 else 24 if len(spacing) == 2 else 8
    steps = np.asarray(list(product(range(reach + 1), repeat=len(spacing))))
    squares = reduce(np.add, ((steps * np.asarray(spacing)) ** 2).T)
    order = np.argsort(squares, kind="stable")[1 : _MOST_STEPS + 2]
    limit = min(squares[order[-1]], ((reach + 1) * min(spacing)) ** 2)
    distinct = np.unique(squares[order][squares[order] < limit])
    return [
        (float(np.sqrt(square)), [tuple(step) for step in steps[squares == square].tolist()]) for square in distinct
    ]


def _views(step: tuple[int, ...], shape: tuple[int, ...]) -> _Views:
    """Slices that move an array by the step and its mirror images; none where it moves out of the array."""
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
    """Every pixel moved along the last axis; what leaves the array is lost."""
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
