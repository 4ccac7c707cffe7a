"""Read and write masks as NumPy files, .npy or .npz of one array."""

import math
import zipfile
from pathlib import Path
from typing import IO, Literal

import numpy as np

from guidino_cli.data.images import merge_equal_channels
from guidino_cli.data.limits import require_pixels, require_unpackable
from guidino_cli.data.regions import ArrayRegions, RegionReader
from guidino_cli.errors import DataError, UserError
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
        _check_header(path)
        values = np.load(path, allow_pickle=False, mmap_mode=mmap_mode)
        if not isinstance(values, np.ndarray):
            with values as archive:
                values = archive[archive.files[0]]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (UserError, MemoryError):
        raise
    except Exception as error:  # numpy lets syntax, zlib and many other errors of damaged files through
        raise DataError(f"{path}: {describe_damage(path, 'an array', error)}") from error
    is_colour = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if values.dtype.kind not in "buif" or values.size == 0 or not (values.ndim == 2 or is_colour):
        raise DataError(f"{path}: expected a two-dimensional array of numbers, found {values.shape} {values.dtype}")
    return values


def _check_header(path: Path) -> None:
    """Refuse a file whose header claims too many values, or more than the file holds: numpy allocates them first."""
    stored = path.stat().st_size
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            claimed = _claimed_bytes(file, path)
        if claimed > stored:
            raise ValueError(f"its header claims {claimed:,} bytes of values, the file has {stored:,}")
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise ValueError(f"holds {len(names)} arrays, expected one")
        with archive.open(names[0]) as member:
            require_unpackable(path, stored, _claimed_bytes(member, path))


def _claimed_bytes(file: IO[bytes], path: Path) -> int:
    """Bytes of the values that the header of a .npy file claims."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    require_pixels(path, shape[:2])
    return math.prod(shape) * dtype.itemsize
