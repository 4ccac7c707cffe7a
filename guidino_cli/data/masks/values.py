"""Histogram of the values that a mask file holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from guidino_cli.data.readers import read_labels
from guidino_cli.errors import DataError

LOSSY_SUFFIXES = {".jpg", ".jpeg", ".webp"}
LOW_CLUSTER_MAX, HIGH_CLUSTER_MIN = 31, 224
"""Ends of the two clusters of a binary mask with compression noise: 0..31 and 224..255."""
MAX_STORED = 512
_CHUNK = 1 << 22

Kind = Literal["bool", "grey", "colour", "float"]


@dataclass(frozen=True)
class Histogram:
    """The values of one mask and how often they occur.

    Attributes:
        name: File name for messages.
        values: Distinct values, ascending; colours packed as 0xRRGGBB. Only the first `MAX_STORED` of them.
        counts: Pixels with each value.
        distinct: Number of distinct values, including those not stored.
        kind: "bool" for 1-bit masks; "float" if some value is not a whole number.
        is_lossy: Whether the file format changes values (JPEG, WebP).
    """

    name: str
    values: tuple[int | float, ...]
    counts: tuple[int, ...]
    distinct: int
    kind: Kind
    is_lossy: bool = False

    @property
    def middle_share(self) -> float:
        """Share of pixels strictly between the two clusters of a noisy binary mask."""
        pixels = zip(self.values, self.counts, strict=True)
        middle = sum(count for value, count in pixels if LOW_CLUSTER_MAX < value < HIGH_CLUSTER_MIN)
        return middle / max(sum(self.counts), 1)


def compute_histogram(values: np.ndarray, *, name: str, is_lossy: bool = False) -> Histogram:
    """Count the distinct values of a mask: (H, W) of any number type, or (H, W, 3) uint8 colours."""
    if values.ndim == 3:
        packed = values.astype(np.int32)
        distinct, counts = _count(packed[..., 0] << 16 | packed[..., 1] << 8 | packed[..., 2])
        kind: Kind = "colour"
    elif values.dtype.kind == "f":
        distinct, counts = np.unique(values, return_counts=True)
        kind = "float" if not np.isfinite(distinct).all() or np.any(distinct != np.round(distinct)) else "grey"
    else:
        kind = "bool" if values.dtype == bool else "grey"
        distinct, counts = _count(values)
    stored = distinct[:MAX_STORED].tolist()
    if kind != "float":
        stored = [int(value) for value in stored]
    return Histogram(name, tuple(stored), tuple(counts[:MAX_STORED].tolist()), len(distinct), kind, is_lossy)


def read_with_histogram(path: Path) -> tuple[np.ndarray, Histogram]:
    """Read a two-dimensional mask and count its values.

    Raises:
        DataError: The file cannot be read, or is a volume.
    """
    values, geometry = read_labels(path)
    if len(geometry.shape) != 2:
        raise DataError(f"{path}: is a volume of {len(geometry.shape)} axes, expected a two-dimensional mask")
    return values, compute_histogram(values, name=path.name, is_lossy=path.suffix.lower() in LOSSY_SUFFIXES)


def _count(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 2:
        # In chunks: bincount takes 8 bytes a pixel, too much for a mask of 40,000 x 40,000.
        flat, size = values.ravel(), 256 ** max(1, values.dtype.itemsize)
        counts = np.zeros(size, dtype=np.int64)
        for start in range(0, flat.size, _CHUNK):
            counts += np.bincount(flat[start : start + _CHUNK], minlength=size)
        distinct = np.flatnonzero(counts)
        return distinct, counts[distinct]
    return np.unique(values, return_counts=True)
