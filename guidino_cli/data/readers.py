"""Readers of all file formats in one table by suffix: images, NumPy arrays, NIfTI volumes, DICOM segmentations.

A new format is one row of `READERS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guidino_cli.data import arrays, image_writing, images, regions
from guidino_cli.data.volumes import itk, nifti
from guidino_cli.data.volumes.dicom import segments
from guidino_cli.errors import DataError
from guidino_cli.types import Geometry


def _no_palette(path: Path) -> None:
    """The palette of a format that has none."""


@dataclass(frozen=True)
class Reader:
    """Reader and writer of one file format. All functions raise `DataError` with the name of a bad file.

    Attributes:
        read: Intensities, such as a network takes: (H, W, 3) uint8 of images, (X, Y, Z) as stored of volumes.
        read_labels: Mask values as stored: (H, W) or, of colour masks, (H, W, 3) of images; (X, Y, Z) of volumes.
        open_regions: Open without holding the whole image as numbers; regions of it are those of `read`. None for
            formats that are read as a whole.
        write: Write class indices of a grid; None for formats in which no masks are written.
        read_palette: Colours (N, 3) uint8 of the indices that `read_labels` returns; None without a palette.
        is_volume: Whether the files state sizes in millimetres.
        omits_empty_slices: Whether slices without any label may be missing at the ends of a file.
    """

    read: Callable[[Path], tuple[np.ndarray, Geometry]]
    read_labels: Callable[[Path], tuple[np.ndarray, Geometry]]
    open_regions: Callable[[Path], regions.RegionReader] | None = None
    write: Callable[[Path, np.ndarray, Geometry], None] | None = None
    read_palette: Callable[[Path], np.ndarray | None] = _no_palette
    is_volume: bool = False
    omits_empty_slices: bool = False


_PILLOW = Reader(
    images.read_image, images.read_labels, regions.open_image, image_writing.write_labels, images.read_palette
)
_TIFF = Reader(
    images.read_image, images.read_labels, regions.open_tiff, image_writing.write_labels, images.read_palette
)
_NUMPY = Reader(arrays.read, arrays.read, arrays.open_regions, arrays.write)
_NIFTI = Reader(nifti.read, nifti.read_labels, nifti.open_regions, nifti.write, is_volume=True)
_ITK = Reader(itk.read, itk.read_labels, is_volume=True)
_DICOM = Reader(segments.read_labels, segments.read_labels, is_volume=True, omits_empty_slices=True)

READERS = {
    **dict.fromkeys(sorted(images.IMAGE_SUFFIXES), _PILLOW),
    **dict.fromkeys(regions.TIFF_SUFFIXES, _TIFF),
    **dict.fromkeys(arrays.ARRAY_SUFFIXES, _NUMPY),
    **dict.fromkeys(nifti.VOLUME_SUFFIXES, _NIFTI),
    **dict.fromkeys(itk.ITK_SUFFIXES, _ITK),
    **dict.fromkeys(segments.SEGMENTATION_SUFFIXES, _DICOM),
}


def is_readable(path: Path) -> bool:
    """Whether a path looks like a file of a known format; hidden files do not."""
    return path.name.lower().endswith(tuple(READERS)) and not path.name.startswith(".")


def find_reader(path: Path) -> Reader:
    """The reader of a file by the end of its name; Pillow's, which looks at the content, for names that are unknown."""
    name = path.name.lower()
    return next((reader for suffix, reader in READERS.items() if name.endswith(suffix)), _PILLOW)


def read(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read intensities and grid; see `Reader.read`."""
    return find_reader(path).read(path)


def read_labels(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read mask values as stored, and their grid; see `Reader.read_labels`."""
    return find_reader(path).read_labels(path)


def read_palette(path: Path) -> np.ndarray | None:
    """Colours of a palette image by index; see `Reader.read_palette`."""
    return find_reader(path).read_palette(path)


def open_regions(path: Path) -> regions.RegionReader:
    """Open an image of which regions are read; see `Reader.open_regions`."""
    reader = find_reader(path)
    if reader.open_regions is not None:
        return reader.open_regions(path)
    values, geometry = reader.read(path)
    return regions.ArrayRegions(geometry, values)


def write(path: Path, labels: np.ndarray, geometry: Geometry) -> None:
    """Write class indices in the format that the suffix names; `DataError` for one in which no masks are written."""
    reader = find_reader(path)
    if reader.write is None:
        raise DataError(f"{path}: masks of volumes are written as .nii.gz; name it so")
    reader.write(path, labels, geometry)
