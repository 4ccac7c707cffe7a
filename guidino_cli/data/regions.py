"""Read regions of an image that is too large to be held as numbers."""

import logging
import math
import mmap
import os
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from guidino_cli.data import deep, images, limits
from guidino_cli.errors import DataError, UserError
from guidino_cli.types import Geometry

TIFF_SUFFIXES = (".tif", ".tiff")

# Its warnings about damaged files name no file; the errors that follow do.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


class RegionReader(ABC):
    """An open image or volume of which regions are read.

    Attributes:
        geometry: Its grid.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    @abstractmethod
    def read_region(self, *region: slice) -> np.ndarray:
        """Values of a region inside the image, one slice an axis; of images (h, w, 3) uint8."""

    def read_window(self, corner: Sequence[int], side: int) -> np.ndarray:
        """A region of the same side along each axis, zeros outside the image."""
        axes = zip(corner, self.geometry.shape, strict=True)
        region = self.read_region(*(slice(start, min(start + side, length)) for start, length in axes))
        missing = [(0, side - length) for length in region.shape[: len(corner)]]
        return np.pad(region, missing + [(0, 0)] * (region.ndim - len(corner)))

    def read_all(self) -> np.ndarray:
        """The whole image."""
        return self.read_region(*(slice(0, length) for length in self.geometry.shape))


class ArrayRegions(RegionReader):
    """An array in memory or mapped from a file, whose values are given as they are."""

    def __init__(self, geometry: Geometry, values: np.ndarray) -> None:
        super().__init__(geometry)
        self.values = values

    def read_region(self, *region: slice) -> np.ndarray:
        """A view, or a part of the mapped file."""
        return self.values[region]


class _RgbRegions(ArrayRegions):
    """An array (H, W) or (H, W, 3 or 4) of uint8."""

    def read_region(self, *region: slice) -> np.ndarray:
        part = np.asarray(self.values[region])
        return np.repeat(part[..., None], 3, axis=2) if part.ndim == 2 else part[..., :3]


class _MappedRegions(_RgbRegions):
    """An array mapped from a file, whose pages leave the memory after each window."""

    def read_window(self, corner: Sequence[int], side: int) -> np.ndarray:
        copied = super().read_window(corner, side)
        _release_pages(self.values)
        return copied


class _PillowRegions(RegionReader):
    """An 8-bit image as Pillow holds it: up to 4 bytes per pixel."""

    def __init__(self, path: Path, image: Image.Image) -> None:
        super().__init__(Geometry.of_pixels(str(path), (image.height, image.width)))
        self.image = image

    def read_region(self, *region: slice) -> np.ndarray:
        rows, columns = region
        return np.asarray(self.image.crop((columns.start, rows.start, columns.stop, rows.stop)).convert("RGB"))


def _release_pages(pixels: Any) -> None:
    """Drop the pages of a mapped file that were read or written from memory; the file keeps them."""
    if sys.platform == "linux":
        # Otherwise each page counts as this process's memory until the system runs short.
        pixels._mmap.madvise(mmap.MADV_DONTNEED)


def read_size(path: Path) -> tuple[int, int]:
    """Height and width in the file's header, before any EXIF rotation.

    Raises:
        DataError: The file cannot be read as an image.
    """
    if path.suffix.lower() in TIFF_SUFFIXES:
        size = _read_tiff_size(path)
        if size is not None:
            return size
    with images.open_header(path) as file:
        return file.height, file.width


def _read_tiff_size(path: Path) -> tuple[int, int] | None:
    """Height and width of a TIFF that is read in parts; None for others, which Pillow opens."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            size = int(page.imagelength), int(page.imagewidth)
            return size if _is_plain(page) and min(size) > 0 else None
    except Exception:  # tifffile lets struct, type and many other errors of damaged files through
        # Pillow reports what is wrong with the file.
        return None


def open_tiff(path: Path) -> RegionReader:
    """Open a TIFF.

    An 8-bit grey or RGB TIFF of one page stays on disk; a compressed one is unpacked, tile by tile, into a temporary
    file. Others are decoded as a whole, as by `open_image`.

    Raises:
        DataError: The file cannot be read as an image.
    """
    pixels = _memmap_tiff(path)
    if pixels is None:
        return open_image(path)
    return _MappedRegions(Geometry.of_pixels(str(path), pixels.shape[:2]), pixels)


def open_image(path: Path) -> RegionReader:
    """Decode an image as a whole, at most 4 bytes per pixel.

    Raises:
        DataError: The file cannot be read as an image.
    """
    with images.open_header(path) as file:
        is_deep = deep.is_deep(deep.deep_mode(file))
    if is_deep:
        # Scaled by the values of the whole image.
        pixels, geometry = images.read_image(path)
        return _RgbRegions(geometry, pixels)
    return _PillowRegions(path, images.open_image(path))


def _memmap_tiff(path: Path) -> np.ndarray | None:
    """Pixels of an 8-bit grey or RGB TIFF mapped from disk, or None for other TIFFs."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            if len(file.pages) > 1 or not _is_plain(page):
                return None
            if page.is_memmappable:
                return tifffile.memmap(path, mode="r")
            _require_unpackable(path, page)
            return _decompress_to_memmap(page, path)
    except (UserError, MemoryError):
        raise
    except Exception:  # of damaged files, and of a compression that tifffile leaves to another package
        # Pillow has codecs of its own, and reports what is wrong with the file.
        return None


_PLAIN_LAYOUTS = {("YX", "MINISBLACK", 1), ("YXS", "RGB", 3), ("YXS", "RGB", 4)}
_ASSOCIATED_ALPHA = 1


def _is_plain(page: Any) -> bool:
    """8-bit grey (0 is black) or RGB in the usual order, neither rotated nor planar, without premultiplied alpha."""
    rotated = "Orientation" in page.tags and page.tags["Orientation"].value != 1
    return (
        page.dtype == np.uint8
        and math.prod(page.shape) > 0
        and not rotated
        and (page.axes, page.photometric.name, page.samplesperpixel) in _PLAIN_LAYOUTS
        and _ASSOCIATED_ALPHA not in page.extrasamples
    )


_SPARSE = 200
"""Images above the limit of `limits.max_pixels` that are compressed by more are taken for a bomb: photographs are not,
and predicting billions of equal pixels would take days.
"""


def _require_unpackable(path: Path, page: Any) -> None:
    """Refuse a compressed TIFF that claims far more pixels than it has bytes."""
    count, stored = math.prod(page.shape), path.stat().st_size
    limits.require_unpackable(path, stored, count)
    if count > _SPARSE * stored:
        limits.require_pixels(path, page.shape[:2])


def _decompress_to_memmap(page: Any, path: Path) -> np.ndarray:
    with tempfile.NamedTemporaryFile(prefix="guidino-", suffix=".pixels") as file:
        _reserve(file.fileno(), math.prod(page.shape), path)
        # The array keeps the file's blocks after its name is gone.
        pixels: np.ndarray = np.memmap(file, dtype=np.uint8, mode="w+", shape=page.shape)
    height, width = page.shape[:2]
    for segment, (_, _, top, left, _), _ in page.segments():
        if segment is None:
            continue
        tile = segment[0] if page.ndim == 3 else segment[0, ..., 0]
        rows, columns = min(tile.shape[0], height - top), min(tile.shape[1], width - left)
        pixels[top : top + rows, left : left + columns] = tile[:rows, :columns]
        _release_pages(pixels)
    return pixels


def _reserve(file: int, size: int, path: Path) -> None:
    """Take the disk space of a mapped file now: a disk that is full later would end the process by a signal."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        folder = tempfile.gettempdir()
        raise DataError(
            f"{path}: unpacks to {size / 1e9:.1f} GB, which {folder} cannot hold ({error.strerror}); free some space, "
            "or set TMPDIR to another folder"
        ) from error
