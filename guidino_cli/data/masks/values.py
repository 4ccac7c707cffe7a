"""Which values does a mask file hold? Read as stored: indices stay indices, grey stays grey, nothing is rescaled."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from guidino_cli.data.images import open_image
from guidino_cli.errors import DataError

LOSSY_SUFFIXES = {".jpg", ".jpeg", ".webp"}
LOW_CLUSTER_MAX, HIGH_CLUSTER_MIN = 31, 224
"""Ends of the two clusters of a binary mask with compression noise: 0..31 and 224..255."""
MAX_STORED = 512
_CHUNK = 1 << 22

Kind = Literal["bool", "grey", "colour", "float"]


@dataclass(frozen=True)
class Histogram:
    """Which values one mask holds.

    Attributes:
        name: What to call the file in messages.
        values: Distinct values, ascending; colours packed as 0xRRGGBB. Only the first `MAX_STORED` of them.
        counts: Pixels with each value.
        distinct: Number of distinct values, also of those not stored.
        kind: "bool" for 1-bit masks, whose meaning is plain; "float" if some value is not a whole number.
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
        middle = sum(
            count
            for value, count in zip(self.values, self.counts, strict=True)
            if LOW_CLUSTER_MAX < value < HIGH_CLUSTER_MIN
        )
        return middle / max(sum(self.counts), 1)


def read_values(path: Path) -> np.ndarray:
    """Read a mask's values as they are stored, EXIF rotation applied.

    Palettes give their indices and never their colours, except that a palette of black and white alone is a 1-bit
    image whichever way round its indices are. Three equal channels become one. Alpha is dropped, unless the colours are
    constant and alpha is not (or is 0 everywhere): then alpha is the mask. Of an animated GIF the first frame is read.

    Returns:
        (H, W) bool, integer or float values, or (H, W, 3) uint8 colours.

    Raises:
        DataError: The file cannot be read, or is not two-dimensional.
    """
    if path.suffix.lower() in {".npy", ".npz"}:
        return _load_array(path)
    image = open_image(path)
    if image.mode in {"P", "PA"}:
        return _palette_values(image)
    if image.mode in {"CMYK", "YCbCr", "LAB", "HSV", "RGBX"}:
        image = image.convert("RGB")
    values = np.asarray(image)
    if image.mode in {"RGBA", "LA", "RGBa", "La"}:
        values = _without_alpha(values)
    return _merge_equal_channels(values)


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
    """Read a mask and count its values; see `read_values` for the errors."""
    values = read_values(path)
    return values, compute_histogram(values, name=path.name, is_lossy=path.suffix.lower() in LOSSY_SUFFIXES)


def _count(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if values.dtype.kind in "bu" and values.dtype.itemsize <= 2:
        # In pieces: bincount makes 8 bytes of every pixel, which a mask of 40,000 x 40,000 has no room for.
        flat, size = values.ravel(), 256 ** max(1, values.dtype.itemsize)
        counts = np.zeros(size, dtype=np.int64)
        for start in range(0, flat.size, _CHUNK):
            counts += np.bincount(flat[start : start + _CHUNK], minlength=size)
        distinct = np.flatnonzero(counts)
        return distinct, counts[distinct]
    return np.unique(values, return_counts=True)


def _palette_values(image: Image.Image) -> np.ndarray:
    indices = np.asarray(image if image.mode == "P" else image.getchannel(0))
    palette = np.asarray(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    used = np.unique(indices)
    if len(palette) > used[-1] and len(used) > 1:
        colours = palette[used]
        if {tuple(colour) for colour in colours.tolist()} == {(0, 0, 0), (255, 255, 255)}:
            return palette[indices][..., 0] > 0
    return indices


def _without_alpha(values: np.ndarray) -> np.ndarray:
    colours, alpha = values[..., :-1], values[..., -1]
    is_constant = bool((colours == colours[0, 0]).all())
    if is_constant and (not alpha.any() or bool((alpha != alpha[0, 0]).any())):
        return alpha
    return colours[..., 0] if colours.shape[-1] == 1 else colours


def _merge_equal_channels(values: np.ndarray) -> np.ndarray:
    """Three equal channels are one."""
    if values.ndim == 3 and np.array_equal(values[..., 0], values[..., 1]):
        return values[..., 0] if np.array_equal(values[..., 0], values[..., 2]) else values
    return values


def _load_array(path: Path) -> np.ndarray:
    loaders: dict[str, Callable[[Path], np.ndarray]] = {".npy": _load_npy, ".npz": _load_npz}
    try:
        values = loaders[path.suffix.lower()](path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path}: cannot be read as an array ({error})") from error
    is_colour = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if values.dtype.kind not in "buif" or values.size == 0 or not (values.ndim == 2 or is_colour):
        raise DataError(f"{path}: expected a two-dimensional array of numbers, found {values.shape} {values.dtype}")
    return _merge_equal_channels(values)


def _load_npy(path: Path) -> np.ndarray:
    return np.load(path, allow_pickle=False)


def _load_npz(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        if len(archive.files) != 1:
            raise ValueError(f"holds {len(archive.files)} arrays, expected one")
        return archive[archive.files[0]]
