"""Read and write NIfTI volumes in the axis order of their files."""

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.data.limits import require_pixels, require_unpackable
from guidino_cli.data.regions import RegionReader
from guidino_cli.data.volumes.canonical import find_orientation, reoriented_affine
from guidino_cli.data.volumes.grid import SourceVolume
from guidino_cli.errors import DataError, UserError
from guidino_cli.files import describe_damage, write_atomically
from guidino_cli.progress import log_warning
from guidino_cli.types import Geometry

VOLUME_SUFFIXES = (".nii.gz", ".nii")

_MM_PER_UNIT = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}
"""Millimetres per unit of length by its code in xyzt_units: unknown, metre, millimetre, micrometre."""


def is_volume(path: Path) -> bool:
    """Whether a path looks like a NIfTI file; hidden files do not."""
    return path.name.lower().endswith(VOLUME_SUFFIXES) and not path.name.startswith(".")


def read(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read intensities in the file's axis order; sizes in metres or micrometres become millimetres.

    Returns:
        (X, Y, Z) or (X, Y) in the numbers of the file, or float32 where it has a slope and intercept; and the grid.

    Raises:
        DataError: Missing, damaged, not NIfTI, empty, or of more than three dimensions.
    """
    volume = open_regions(path)
    _validate(path, volume.stored, volume.geometry)
    return volume.read_all(), volume.geometry


def read_labels(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read label values; as `read`, but whole numbers stored as floats become int64.

    Raises:
        DataError: Missing, damaged, not NIfTI, empty, or of more than three dimensions.
    """
    with _nifti_errors(path):
        image = _load(path)
        values = _drop_last_axes(np.asarray(image.dataobj))
        geometry = _geometry(path, image, values.shape)
    _validate(path, values, geometry)
    return as_integers_if_whole(values), geometry


def read_source(path: Path) -> SourceVolume:
    """Read a volume with its header; a fourth axis is taken for channels.

    Returns:
        (X, Y, Z), or (X, Y, Z, C) of a file with more than one volume, in the numbers of the file, or float32 where it
        has a slope and intercept.

    Raises:
        DataError: Missing, damaged, not NIfTI, empty, of fewer than three or more than four dimensions, or not of real
            numbers.
    """
    with _nifti_errors(path):
        image = _load(path, max_axes=5)
        proxy = image.dataobj
        is_scaled = (float(proxy.slope), float(proxy.inter)) != (1.0, 0.0)
        values = _drop_last_axes(np.asarray(proxy, dtype=np.float32) if is_scaled else np.asarray(proxy.get_unscaled()))
        if values.ndim == 5 and values.shape[3] == 1:
            # A vector per voxel: NIfTI's fourth axis is time.
            values = values[:, :, :, 0]
        if values.ndim not in (3, 4) or values.size == 0 or values.dtype.kind not in "biuf":
            found = f"{' x '.join(map(str, values.shape))} {_describe_type(values.dtype)}"
            raise DataError(f"{path}: expected a volume of three axes, or four with channels, found {found}")
        geometry = _geometry(path, image, values.shape[:3])
        if not all(size > 0 and np.isfinite(size) for size in geometry.spacing):
            raise DataError(f"{path}: voxel size {geometry.spacing} is not positive; correct the header")
        return SourceVolume(values, geometry, image.header)


def _describe_type(dtype: np.dtype) -> str:
    """Type of the voxels for messages."""
    return "of colours" if dtype.kind == "V" else f"of {dtype}"


def write(path: Path, labels: np.ndarray, geometry: Geometry) -> None:
    """Write class indices with the spacing and position of their grid, in millimetres."""
    import nibabel

    image: Any = nibabel.Nifti1Image(labels, geometry.affine)
    if geometry.affine is None:
        image.header.set_zooms(geometry.spacing)
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    if path.suffix.lower() == ".gz":
        content = gzip.compress(content, compresslevel=1, mtime=0)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


class NiftiRegions(RegionReader):
    """A volume in the numbers of its file, which are scaled region by region.

    Attributes:
        stored: (X, Y, Z) before scaling; mapped from disk if the file is not compressed.
        slope: Factor of the stored numbers.
        intercept: Added after that.
    """

    def __init__(self, geometry: Geometry, stored: np.ndarray, slope: float, intercept: float) -> None:
        super().__init__(geometry)
        self.stored, self.slope, self.intercept = stored, slope, intercept

    def read_region(self, *region: slice) -> np.ndarray:
        """Values of a region in the numbers of the file, or float32 where it has a slope and intercept."""
        values = np.asarray(self.stored[region])
        if (self.slope, self.intercept) == (1.0, 0.0):
            return values
        return values.astype(np.float32) * self.slope + self.intercept

    def to_ras(self, *, axes_where_unknown: str | None = None) -> "NiftiRegions":
        """The same volume with axes to the patient's right, to the front and up; no value is copied.

        Args:
            axes_where_unknown: Directions of the axes, such as "LPS", of a volume whose header states none.

        Raises:
            DataError: The header does not say where the axes point.
        """
        from nibabel.orientations import apply_orientation

        orientation = find_orientation(self.geometry, axes_where_unknown=axes_where_unknown, target="RAS")
        stored = apply_orientation(self.stored, orientation)
        geometry = replace(
            self.geometry,
            shape=stored.shape,
            spacing=tuple(self.geometry.spacing[axis] for axis in np.argsort(orientation[:, 0])),
            affine=None if self.geometry.affine is None else reoriented_affine(self.geometry, orientation),
        )
        return NiftiRegions(geometry, stored, self.slope, self.intercept)


def open_regions(path: Path) -> NiftiRegions:
    """Open a volume; only regions of it are scaled, so a CT of 500 slices takes a quarter of a gigabyte.

    Raises:
        DataError: Missing, damaged, or not NIfTI.
    """
    with _nifti_errors(path):
        image = _load(path)
        stored = _drop_last_axes(np.asanyarray(image.dataobj.get_unscaled()))
        geometry = _geometry(path, image, stored.shape)
        return NiftiRegions(geometry, stored, float(image.dataobj.slope), float(image.dataobj.inter))


@contextmanager
def _nifti_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (UserError, MemoryError):
        raise
    except Exception as error:  # nibabel lets zlib, struct and many other errors of damaged files through
        raise DataError(f"{path}: {describe_damage(path, 'NIfTI', error)}") from error


def _load(path: Path, *, max_axes: int = 3) -> Any:
    """Open a volume without reading its voxels, if it does not claim too many."""
    import nibabel

    image: Any = nibabel.load(path)
    shape = image.dataobj.shape
    axes = len(shape) - next((i for i, length in enumerate(shape[:2:-1]) if length != 1), len(shape[3:]))
    if axes > max_axes:
        found = " x ".join(map(str, shape))
        raise DataError(
            f"{path}: is a volume of {axes} axes ({found}), expected 3; save each volume as a file of its own"
        )
    require_pixels(path, shape, is_volume=True)
    claimed, stored = math.prod(shape) * image.get_data_dtype().itemsize, path.stat().st_size
    if path.suffix.lower() == ".gz":
        require_unpackable(path, stored, claimed)
    elif claimed > stored:
        # nibabel would allocate them first.
        raise DataError(f"{path}: claims {claimed:,} bytes of voxels, but has only {stored:,}; it is truncated")
    return image


def _drop_last_axes(values: np.ndarray) -> np.ndarray:
    """A volume without axes of length 1 after the third."""
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    return values


def _geometry(path: Path, image: Any, shape: tuple[int, ...]) -> Geometry:
    scale = _read_unit(path, image.header)
    stated = tuple(float(size) * scale for size in image.header.get_zooms()[: len(shape)])
    if not image.header["sform_code"] and not image.header["qform_code"]:
        # nibabel assumes LAS here, other programs assume RAS: whoever is wrong flips left and right.
        return Geometry(str(path), shape, stated, "mm", None)
    affine = np.diag([scale, scale, scale, 1.0]) @ np.asarray(image.affine, dtype=np.float64)
    # Positions come from the affine, so lengths must too: pixdim may contradict it.
    spacing = tuple(float(size) for size in np.linalg.norm(affine[:3, :3], axis=0)[: len(shape)])
    if not np.allclose(spacing, stated, rtol=_SPACING_TOLERANCE) and all(size > 0 for size in spacing):
        _warn_of_contradiction(str(path), stated, spacing)
    return Geometry(str(path), shape, spacing, "mm", affine)


def _read_unit(path: Path, header: Any) -> float:
    """Millimetres per unit of length; a header that states none means millimetres."""
    code = int(header["xyzt_units"]) & 7
    if code not in _MM_PER_UNIT:
        raise DataError(
            f"{path}: its header gives lengths in a unit of code {code}, expected 1 (m), 2 (mm) or 3 (micrometres) in "
            "xyzt_units; correct the header"
        )
    return _MM_PER_UNIT[code]


_SPACING_TOLERANCE = 1e-3
"""Relative difference of voxel sizes that counts as rounding."""


@lru_cache(maxsize=4096)
def _warn_of_contradiction(path: str, stated: tuple[float, ...], spacing: tuple[float, ...]) -> None:
    """Say once per file that its header gives two voxel sizes."""
    first, second = (" x ".join(f"{size:.4g}" for size in sizes) for sizes in (stated, spacing))
    log_warning(
        f"{path}: its header contradicts itself: voxels are {first} mm by pixdim, {second} mm by the affine; "
        "the affine is used"
    )


def _validate(path: Path, values: np.ndarray, geometry: Geometry) -> None:
    if values.ndim not in (2, 3) or values.size == 0 or values.dtype.kind not in "biuf":
        raise DataError(f"{path}: expected a two- or three-dimensional volume, found {values.shape} {values.dtype}")
    if not all(size > 0 and np.isfinite(size) for size in geometry.spacing):
        raise DataError(f"{path}: voxel size {geometry.spacing} is not positive; correct the header")


def as_integers_if_whole(values: np.ndarray) -> np.ndarray:
    """Label volumes are often stored as floats: give whole numbers an integer type."""
    # Infinity is equal to itself when rounded, and no integer holds it or a float beyond 2**53.
    if values.dtype.kind != "f" or not np.isfinite(values).all() or np.abs(values).max() > 2**53:
        return values
    rounded = np.round(values)
    return rounded.astype(np.int64) if np.array_equal(rounded, values) else values
