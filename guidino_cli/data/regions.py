"""Parts of an image that is too large to be held as numbers: windows of it, decoded or from the file."""

import mmap
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from guidino_cli.data.images import open_image, read_image
from guidino_cli.errors import DataError


class Regions(ABC):
    """An image of which windows are asked for.

    Attributes:
        source: Name of the file.
        size_hw: Height and width in pixels, after EXIF rotation.
    """

    source: str
    size_hw: tuple[int, int]

    @abstractmethod
    def part(self, rows: slice, columns: slice) -> np.ndarray:
        """(h, w, 3) uint8 of a part inside the image."""

    def window(self, corner: tuple[int, int], side: int) -> np.ndarray:
        """(side, side, 3) uint8 at a corner (row, column), zeros outside the image."""
        (height, width), (top, left) = self.size_hw, corner
        part = self.part(slice(top, min(top + side, height)), slice(left, min(left + side, width)))
        return np.pad(part, ((0, side - part.shape[0]), (0, side - part.shape[1]), (0, 0)))

    def all(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return self.part(slice(0, self.size_hw[0]), slice(0, self.size_hw[1]))


class _PillowRegions(Regions):
    """An 8-bit image as Pillow holds it: up to 4 bytes a pixel."""

    def __init__(self, path: Path, image: Image.Image) -> None:
        self.source, self.image, self.size_hw = str(path), image, (image.height, image.width)

    def part(self, rows: slice, columns: slice) -> np.ndarray:
        return np.asarray(self.image.crop((columns.start, rows.start, columns.stop, rows.stop)).convert("RGB"))


class _ArrayRegions(Regions):
    """An array (H, W) or (H, W, 3 or 4) of uint8."""

    def __init__(self, path: Path, pixels: np.ndarray) -> None:
        self.source, self.pixels, self.size_hw = str(path), pixels, (pixels.shape[0], pixels.shape[1])

    def part(self, rows: slice, columns: slice) -> np.ndarray:
        part = np.asarray(self.pixels[rows, columns])
        return np.repeat(part[..., None], 3, axis=2) if part.ndim == 2 else part[..., :3]


class _MappedRegions(_ArrayRegions):
    """The same, mapped from a file: what a window has been copied from is not kept in memory."""

    def window(self, corner: tuple[int, int], side: int) -> np.ndarray:
        copied = super().window(corner, side)
        _release_pages(self.pixels)
        return copied


def _release_pages(pixels: Any) -> None:
    """Let go of the pages of a mapped file that were read or written; they stay in the file."""
    if sys.platform == "linux":
        # Else each counts as this process's memory until the system is short of it.
        pixels._mmap.madvise(mmap.MADV_DONTNEED)


def read_size(path: Path) -> tuple[int, int]:
    """Height and width as the file's header has them, before any rotation.

    Raises:
        DataError: The file cannot be read as an image.
    """
    if path.suffix.lower() in {".tif", ".tiff"}:
        size = _read_tiff_size(path)
        if size is not None:
            return size
    with _pillow_errors(path), Image.open(path) as file:
        return file.height, file.width


@contextmanager
def _pillow_errors(path: Path) -> Iterator[None]:
    """Turn what Pillow says of a file into a `DataError`; its guard against bombs is answered with a way out."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path}: more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, which only TIFF can be read in parts; "
            "save it as an 8-bit grey or RGB TIFF, uncompressed or deflated"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error}); replace or remove the file") from error


def _read_tiff_size(path: Path) -> tuple[int, int] | None:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            return int(page.imagelength), int(page.imagewidth)
    except (tifffile.TiffFileError, OSError, IndexError):
        # Whatever it is, Pillow finds the words for it.
        return None


def open_regions(path: Path) -> Regions:
    """Open an image whose windows will be asked for.

    An 8-bit grey or RGB TIFF of one page stays on disk (a compressed one is unpacked, tile by tile, into a temporary
    file). Other images are decoded as a whole, at most 4 bytes a pixel.

    Raises:
        DataError: The file cannot be read as an image.
    """
    if path.suffix.lower() in {".tif", ".tiff"}:
        pixels = _memmap_tiff(path)
        if pixels is not None:
            return _MappedRegions(path, pixels)
    with _pillow_errors(path), Image.open(path) as file:
        deep = file.mode.startswith("I") or file.mode == "F"
    # Deep values are scaled by percentiles of the whole image.
    return _ArrayRegions(path, read_image(path)[0]) if deep else _PillowRegions(path, open_image(path))


def _memmap_tiff(path: Path) -> np.ndarray | None:
    """Pixels of a plain TIFF without holding them, or None if it is not plain."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            if len(file.pages) > 1 or not _is_plain(page):
                return None
            if page.is_memmappable:
                return tifffile.memmap(path, mode="r")
            return _decompress_to_memmap(page)
    except tifffile.TiffFileError as error:
        raise DataError(f"{path}: cannot be read as an image ({error}); replace or remove the file") from error
    except ValueError:
        # A compression that tifffile leaves to another package: Pillow has codecs of its own.
        return None


def _is_plain(page: Any) -> bool:
    """8-bit grey (0 is black) or RGB in the usual order, neither rotated nor planar."""
    rotated = "Orientation" in page.tags and page.tags["Orientation"].value != 1
    return (
        page.dtype == np.uint8
        and not rotated
        and page.axes in {"YX", "YXS"}
        and page.photometric.name in {"MINISBLACK", "RGB"}
    )


def _decompress_to_memmap(page: Any) -> np.ndarray:
    with tempfile.NamedTemporaryFile(prefix="guidino-", suffix=".pixels") as file:
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
