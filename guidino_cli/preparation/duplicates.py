"""Find duplicate images: equal files by SHA-256, near duplicates by a 256-bit difference hash."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from PIL import Image

MAX_DISTANCE = 8
"""Number of the 256 bits in which hashes of near duplicates may differ."""
MIN_CORRELATION = 0.95
"""Correlation required of their thumbnails; hashes alone confuse images that are mostly black."""
THUMBNAIL_SIDE = 32
_CHUNK = 256


def difference_hash(grey: Image.Image) -> np.ndarray:
    """Whether each of 16 x 16 cells is brighter than its left neighbour: (4,) uint64."""
    small = np.asarray(grey.resize((17, 16), Image.Resampling.BOX), dtype=np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64)


def thumbnail(grey: Image.Image) -> np.ndarray:
    """Downsample to (1024,) uint8, to distinguish near duplicates from flat images."""
    return np.asarray(grey.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)).ravel()


def find_near_duplicates(hashes: np.ndarray, thumbnails: np.ndarray) -> list[tuple[int, int]]:
    """Find the positions of near duplicates.

    Args:
        hashes: (N, 4) uint64 from `difference_hash`.
        thumbnails: (N, 1024) uint8 from `thumbnail`.

    Returns:
        Pairs (i, j) with i < j; memory stays below 100 MB for N = 10,000.
    """
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(hashes), _CHUNK):
        rows = hashes[start : start + _CHUNK]
        distance = np.zeros((len(rows), len(hashes) - start), dtype=np.uint16)
        for part in range(hashes.shape[1]):
            distance += np.bitwise_count(rows[:, None, part] ^ hashes[None, start:, part])
        for row, column in np.argwhere(distance <= MAX_DISTANCE).tolist():
            if row < column and _correlation(thumbnails[start + row], thumbnails[start + column]) >= MIN_CORRELATION:
                pairs.append((start + row, start + column))
    return pairs


def find_exact_duplicates(file_hashes: Sequence[str]) -> list[tuple[int, int]]:
    """Find the positions of equal files, each paired with the first of them."""
    first: dict[str, int] = {}
    return [
        (first[digest], index) for index, digest in enumerate(file_hashes) if first.setdefault(digest, index) != index
    ]


def connected_components(names: Sequence[str], pairs: Iterable[tuple[int, int]]) -> list[list[str]]:
    """Connected components of two or more names, each sorted, in the order of their first names."""
    parent = list(range(len(names)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for one, other in pairs:
        parent[root(one)] = root(other)
    groups: dict[int, list[str]] = {}
    for index, name in enumerate(names):
        groups.setdefault(root(index), []).append(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def merge_groups(group_of: Mapping[str, str], duplicates: Iterable[Sequence[str]]) -> dict[str, str]:
    """Join the groups that share a duplicate, so that no picture lands in two splits.

    Args:
        group_of: Case id -> group.
        duplicates: Lists of case ids that are one picture.

    Returns:
        Case id -> group; joined groups get the first of their names.
    """
    names = sorted(set(group_of.values()))
    position = {name: index for index, name in enumerate(names)}
    links = [
        (position[group_of[cases[0]]], position[group_of[case]]) for cases in duplicates for case in list(cases)[1:]
    ]
    new_name = {name: group[0] for group in connected_components(names, links) for name in group}
    return {case: new_name.get(group, group) for case, group in group_of.items()}


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    a, b = first - first.mean(dtype=np.float64), second - second.mean(dtype=np.float64)
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    if norm == 0.0:  # A flat image resembles only an equally flat one.
        return 1.0 if np.array_equal(first, second) else 0.0
    return float((a * b).sum() / norm)
