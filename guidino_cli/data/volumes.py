"""Read NIfTI volumes with their voxel size, and cut CT or MR volumes into 8-bit axial slices."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from guidino_cli.errors import DataError

VOLUME_SUFFIXES = (".nii.gz", ".nii")

MM_PER_UNIT = {"mm": 1.0, "micron": 1e-3, "meter": 1e3, "unknown": 1.0}


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
        scale = MM_PER_UNIT[image.header.get_xyzt_units()[0]]
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
    return Volume(_as_integers_if_whole(values), spacing, affine)


def _as_integers_if_whole(values: np.ndarray) -> np.ndarray:
    """Label volumes are often stored as floats: give whole numbers an integer type."""
    if values.dtype.kind != "f":
        return values
    rounded = np.round(values)
    return rounded.astype(np.int64) if np.array_equal(rounded, values) else values


@dataclass(frozen=True)
class SliceSettings:
    """Which slices, and how they look. Defaults: soft tissue of a CT, resized as MedDINOv3's CT-3M.

    Attributes:
        window: Level and width in the volume's units (HU for CT), which become 0 to 255; None takes the 0.5 and 99.5
            percentiles of the volume, for MR.
        size: Side of the square that every slice is resized to; None keeps `spacing_mm`.
        spacing_mm: Pixel size where `size` is None.
        every: Take each slice of so many.
        least: Slices of which a smaller share is brighter than the window's lower end are left out.
    """

    window: tuple[float, float] | None = (40.0, 400.0)
    size: int | None = 256
    spacing_mm: float = 0.45
    every: int = 1
    least: float = 0.05


def read_slices(path: Path, settings: SliceSettings) -> Iterator[tuple[int, np.ndarray]]:
    """Axial slices from the feet up: their number in the volume, and (H, W) uint8, seen from below, the front on top.

    The volume is held in the numbers of its file; only one slice at a time is scaled, so a CT of 500 slices takes a
    quarter of a gigabyte.

    Args:
        path: NIfTI file of three dimensions.
        settings: See `SliceSettings`.

    Raises:
        DataError: Missing, damaged, or no volume.
    """
    stored, slope, shift, spacing = _read_axial(path)
    low, high = _intensity_limits(stored, slope, shift, settings)
    for number in range(0, stored.shape[2], settings.every):
        values = stored[:, :, number].astype(np.float32) * slope + shift
        if np.mean(values > low) < settings.least:
            continue
        grey = (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-6)
        # Rows from front to back, columns from the patient's right, which a reader sees on the left.
        picture = Image.fromarray(np.ascontiguousarray(grey.clip(0, 1)[::-1, ::-1].T * 255))
        resized = picture.resize(_slice_size(values.shape, spacing, settings), Image.Resampling.BILINEAR)
        yield number, np.asarray(resized).round().clip(0, 255).astype(np.uint8)


def _read_axial(path: Path) -> tuple[np.ndarray, float, float, tuple[float, float]]:
    """Stored numbers with axes to the right, to the front and up, their slope and intercept, and pixel size in mm."""
    import nibabel
    from nibabel.orientations import apply_orientation, io_orientation

    try:
        image: Any = nibabel.load(path)
        stored = np.asanyarray(image.dataobj.get_unscaled())
        orientation = io_orientation(image.affine)
        zooms, unit = image.header.get_zooms(), MM_PER_UNIT[image.header.get_xyzt_units()[0]]
        slope, shift = float(image.dataobj.slope), float(image.dataobj.inter)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except Exception as error:  # nibabel lets zlib, struct and many other errors of damaged files through
        raise DataError(f"{path}: cannot be read as NIfTI ({' '.join(str(error).split())})") from error
    while stored.ndim > 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim != 3 or stored.size == 0 or stored.dtype.kind not in "iuf":
        raise DataError(f"{path}: expected a grey three-dimensional volume, found {stored.shape} {stored.dtype}")
    if np.isnan(orientation[:3]).any():
        raise DataError(f"{path}: its affine does not say where its axes point; correct the header")
    to_axis = [int(np.flatnonzero(orientation[:3, 0] == axis)[0]) for axis in (0, 1)]
    return (
        apply_orientation(stored, orientation[:3]),
        slope,
        shift,
        tuple(float(zooms[axis]) * unit for axis in to_axis),
    )  # type: ignore[return-value]


def _intensity_limits(stored: np.ndarray, slope: float, shift: float, settings: SliceSettings) -> tuple[float, float]:
    if settings.window is not None:
        level, width = settings.window
        return level - width / 2, level + width / 2
    # One voxel in 27 tells the percentiles of a volume well enough, and needs no copy of it.
    some = stored[::3, ::3, ::3].astype(np.float32) * slope + shift
    low, high = np.nanpercentile(some, (0.5, 99.5))
    return float(low), float(high)


def _slice_size(shape: tuple[int, ...], spacing: tuple[float, float], settings: SliceSettings) -> tuple[int, int]:
    """Width and height of a picture."""
    if settings.size is not None:
        return settings.size, settings.size
    width, height = (max(1, round(count * mm / settings.spacing_mm)) for count, mm in zip(shape, spacing, strict=True))
    return width, height
