"""Read and write masks as NumPy files, .npy or .npz of one array."""

import zipfile
from pathlib import Path
from typing import Literal

import numpy as np

from guidino_cli.data.images import merge_equal_channels
from guidino_cli.data.regions import ArrayRegions, RegionReader
from guidino_cli.errors import DataError
from guidino_cli.files import describe_damage, write_atomically
from guidino_cli.types import Geometry

ARRAY_SUFFIXES = (".npy", ".npz")


def read(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read (H, W) bool, integer or float values, or (H, W, 3) uint8 colours.

    Raises:
        DataError: The file cannot be read, or is not two-dimensional.
    """
    values = merge_equal_channels(_load(path))
    return values, Geometry.of_pixels(str(path), values.shape[:2])


def open_regions(path: Path) -> RegionReader:
    """Open an array; a .npy file stays on disk.

    Raises:
        DataError: The file cannot be read, or is not two-dimensional.
    """
    values = _load(path, mmap_mode="r")
    return ArrayRegions(Geometry.of_pixels(str(path), values.shape[:2]), values)


def write(path: Path, labels: np.ndarray, geometry: Geometry) -> None:
    """Write class indices; an array file has no place for their geometry."""
    save = np.save if path.suffix.lower() == ".npy" else np.savez_compressed
    write_atomically(path, lambda temporary: save(temporary, labels))


def _load(path: Path, *, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False, mmap_mode=mmap_mode)
        if not isinstance(values, np.ndarray):
            with values as archive:
                if len(archive.files) != 1:
                    raise ValueError(f"holds {len(archive.files)} arrays, expected one")
                values = archive[archive.files[0]]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path}: {describe_damage(path, 'an array', error)}") from error
    is_colour = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if values.dtype.kind not in "buif" or values.size == 0 or not (values.ndim == 2 or is_colour):
        raise DataError(f"{path}: expected a two-dimensional array of numbers, found {values.shape} {values.dtype}")
    return values
