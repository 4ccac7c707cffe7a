"""Read a NIfTI volume with the size of its voxels, in the order of its array axes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.errors import DataError

VOLUME_SUFFIXES = (".nii.gz", ".nii")

IN_MM = {"mm": 1.0, "micron": 1e-3, "meter": 1e3, "unknown": 1.0}


@dataclass(frozen=True)
class Volume:
    """A volume as stored.

    Attributes:
        values: (X, Y, Z) in the file's own axis order, scaled by its slope and intercept; whole numbers as int64.
        spacing_mm: Voxel size along each array axis.
        affine: (4, 4) from voxel index to scanner millimetres.
    """

    values: np.ndarray
    spacing_mm: tuple[float, ...]
    affine: np.ndarray


def is_volume(path: Path) -> bool:
    """Whether a path looks like a NIfTI file; hidden files do not."""
    return path.name.lower().endswith(VOLUME_SUFFIXES) and not path.name.startswith(".")


def read_volume(path: Path) -> Volume:
    """Read a NIfTI file; sizes in metres or micrometres become millimetres.

    Raises:
        DataError: Missing, damaged, not NIfTI, empty, or of more than three dimensions.
    """
    import nibabel

    try:
        image: Any = nibabel.load(path)
        values = np.asarray(image.dataobj)
        zooms = image.header.get_zooms()
        scale = IN_MM[image.header.get_xyzt_units()[0]]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except Exception as error:  # nibabel lets zlib, struct and many other errors of damaged files through
        raise DataError(f"{path}: cannot be read as NIfTI ({' '.join(str(error).split())})") from error
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or values.size == 0 or values.dtype.kind not in "biuf":
        raise DataError(f"{path}: expected a two- or three-dimensional volume, found {values.shape} {values.dtype}")
    spacing = tuple(float(size) * scale for size in zooms[: values.ndim])
    if not all(size > 0 and np.isfinite(size) for size in spacing):
        raise DataError(f"{path}: voxel size {spacing} is not positive; correct the header")
    affine = np.diag([scale, scale, scale, 1.0]) @ np.asarray(image.affine, dtype=np.float64)
    return Volume(_whole(values), spacing, affine)


def _whole(values: np.ndarray) -> np.ndarray:
    """Label volumes are often stored as floats: give whole numbers an integer type."""
    if values.dtype.kind != "f":
        return values
    rounded = np.round(values)
    return rounded.astype(np.int64) if np.array_equal(rounded, values) else values
