"""Histogram of the values that a mask file holds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from guidino_cli.data.images import palette_to_colours
from guidino_cli.data.readers import read_labels, read_palette
from guidino_cli.errors import DataError
from guidino_cli.progress import join_first, pluralize
from guidino_cli.types import Geometry

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
        rounding: Largest change by which the values became whole numbers, see `round_labels`.
        palette: Colour of each of `values` as 0xRRGGBB if they are palette indices, else empty.
    """

    name: str
    values: tuple[int | float, ...]
    counts: tuple[int, ...]
    distinct: int
    kind: Kind
    is_lossy: bool = False
    palette: tuple[int, ...] = ()
    rounding: float = 0.0

    @property
    def middle_share(self) -> float:
        """Share of pixels strictly between the two clusters of a noisy binary mask."""
        pixels = zip(self.values, self.counts, strict=True)
        middle = sum(count for value, count in pixels if LOW_CLUSTER_MAX < value < HIGH_CLUSTER_MIN)
        return middle / max(sum(self.counts), 1)


_WHOLE_TOLERANCE = 1e-3
"""Distance from a whole number below which a label counts as that number: programs that scale labels on writing, as
nibabel may, return 1.99998 for 2."""


def round_labels(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Floats that all are within 1e-3 of whole numbers as int64, and the largest change; others unchanged, and 0.

    Args:
        values: Values of any number type, finite, any shape.
    """
    if values.dtype.kind != "f" or not values.size or not np.abs(values).max() <= 2**53:
        return values, 0.0
    rounded = np.round(values)
    change = float(np.abs(values - rounded).max())
    return (rounded.astype(np.int64), change) if change <= _WHOLE_TOLERANCE else (values, 0.0)


def compute_histogram(
    values: np.ndarray,
    *,
    name: str,
    is_lossy: bool = False,
    palette: np.ndarray | None = None,
    rounding: float = 0.0,
) -> Histogram:
    """Count the distinct values of a mask.

    Args:
        values: (H, W) of any number type, or (H, W, 3) uint8 colours.
        name: File name for messages.
        is_lossy: Whether the file format changes values.
        palette: (N, 3) uint8 colours if the values are palette indices.
        rounding: Largest change by `round_labels`.
    """
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
    used = () if palette is None else used_colours(values, stored, palette)
    numbers = tuple(counts[:MAX_STORED].tolist())
    return Histogram(name, tuple(stored), numbers, len(distinct), kind, is_lossy, used, rounding)


def used_colours(values: np.ndarray, indices: Sequence[int], palette: np.ndarray) -> tuple[int, ...]:
    """Colours of some palette indices as 0xRRGGBB; an index beyond the palette counts as black, as viewers show it.

    Args:
        values: The mask, (H, W); bool if the palette is black and white alone, empty colours if (H, W, 3).
        indices: Some of its values.
        palette: (N, 3) uint8.
    """
    if values.ndim == 3:
        return ()
    if values.dtype == bool:
        return tuple(0xFFFFFF * int(index) for index in indices)
    packed = palette.astype(np.int64) @ (1 << 16, 1 << 8, 1)
    return tuple(int(packed[index]) if index < len(packed) else 0 for index in indices)


def read_in_colour(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read mask values as `read_labels` does, but palette indices as their colours.

    Raises:
        DataError: The file cannot be read, or has an index beyond its palette.
    """
    values, geometry = read_labels(path)
    palette = None if values.dtype == bool else read_palette(path)
    if palette is None:
        return values, geometry
    try:
        return palette_to_colours(values, palette), geometry
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


@dataclass(frozen=True)
class IgnoredValue:
    """A grey value of masks whose pixels do not count.

    Attributes:
        value: As stored.
        background: Stored value of the background, which takes its place where values become classes.
    """

    value: int
    background: int = 0

    @classmethod
    def among(cls, value: int, codes: Iterable[tuple[object, int]]) -> "IgnoredValue":
        """A value beside a table from stored values to class indices; without a table, 0 is the background."""
        background = next((code for code, index in codes if index == 0 and isinstance(code, int)), 0)
        return cls(value, background)

    def describe_lossy(self, paths: Sequence[Path]) -> str:
        """Why pixels with the value are not known in masks compressed with loss; "" if none of the masks is."""
        lossy = [path for path in paths if path.suffix.lower() in LOSSY_SUFFIXES]
        if not lossy:
            return ""
        return (
            f"{pluralize(len(lossy), 'mask')} (JPEG or WebP) {'was' if len(lossy) == 1 else 'were'} compressed with "
            f"loss, which changes values, so the pixels of ignore label {self.value} are not known: "
            f"{join_first([str(path) for path in lossy])}; give the original masks, such as PNG, or leave out "
            "--ignore-label"
        )

    def find(self, values: np.ndarray) -> np.ndarray:
        """Booleans (H, W) of the pixels with the value; a mask of booleans or colours has none."""
        if values.dtype == bool or values.ndim != 2:
            return np.zeros(values.shape[:2], dtype=bool)
        return np.asarray(values == self.value)

    def replace(self, values: np.ndarray) -> np.ndarray:
        """The values with the background in the place of the value."""
        found = self.find(values)
        if not found.any():
            return values
        # A table may name a background that 8 bits cannot hold, such as 300 or -1.
        dtype = np.result_type(values.dtype, np.min_scalar_type(self.background))
        return np.where(found, dtype.type(self.background), values)


def read_with_histogram(
    path: Path, *, in_colour: bool = False, ignore: IgnoredValue | None = None
) -> tuple[np.ndarray, Histogram]:
    """Read a two-dimensional mask and count its values.

    Args:
        path: Mask file.
        in_colour: Replace palette indices by their colours, for a table of colours.
        ignore: A value that counts as background; the returned values still hold it.

    Raises:
        DataError: The file cannot be read, or is a volume.
    """
    values, geometry = read_in_colour(path) if in_colour else read_labels(path)
    values, rounding = round_labels(values)
    if len(geometry.shape) != 2:
        raise DataError(f"{path}: is a volume of {len(geometry.shape)} axes, expected a two-dimensional mask")
    palette = None if in_colour else read_palette(path)
    is_lossy = path.suffix.lower() in LOSSY_SUFFIXES
    counted = values if ignore is None else ignore.replace(values)
    found = compute_histogram(counted, name=path.name, is_lossy=is_lossy, palette=palette, rounding=rounding)
    return values, found


def _count(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 2:
        # In chunks: bincount takes 8 bytes per pixel, too much for a mask of 40,000 x 40,000.
        flat, size = values.ravel(), 256 ** max(1, values.dtype.itemsize)
        counts = np.zeros(size, dtype=np.int64)
        for start in range(0, flat.size, _CHUNK):
            counts += np.bincount(flat[start : start + _CHUNK], minlength=size)
        distinct = np.flatnonzero(counts)
        return distinct, counts[distinct]
    return np.unique(values, return_counts=True)
