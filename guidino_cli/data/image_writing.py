"""Write pictures and masks as image files: losslessly, and under their name only when complete."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from guidino_cli.files import write_atomically
from guidino_cli.types import Geometry

_LOSSLESS_SUFFIXES = {".png", ".bmp", ".tif", ".tiff"}


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W) uint8 or uint16, or (H, W, 3) uint8 losslessly and atomically; a PNG by default."""
    image = Image.fromarray(pixels)
    write_atomically(path, lambda temporary: image.save(temporary, compress_level=3))


def write_label_map(path: Path, labels: np.ndarray) -> None:
    """Write (H, W) class indices as a PNG of uint8, values unchanged."""
    write_png(path, labels.astype(np.uint8))


def write_labels(path: Path, labels: np.ndarray, geometry: Geometry) -> None:
    """Write (H, W) uint8 class indices in a lossless format; an image file has no place for their geometry.

    Raises:
        ValueError: A format that would change the values.
    """
    if path.suffix.lower() not in _LOSSLESS_SUFFIXES:
        raise ValueError(f"{path}: {path.suffix} may change the values of a mask, expected .png")
    write_label_map(path, labels)


def write_label_rows(path: Path, size_hw: tuple[int, int], bands: Iterable[np.ndarray]) -> None:
    """Write class indices as a PNG, atomically.

    Args:
        path: PNG file to write.
        size_hw: Height and width.
        bands: (rows, W) uint8 from top to bottom; together H rows.

    Raises:
        ResourceError: The disk is full or the path cannot be written.
        ValueError: The bands do not have the width, or together not the height.
    """
    write_atomically(path, lambda temporary: _write_png(temporary, size_hw, bands))


def _write_png(path: Path, size_hw: tuple[int, int], bands: Iterable[np.ndarray]) -> None:
    height, width = size_hw
    packer = zlib.compressobj(3)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        # 8 bits, grey, deflate, filters of the standard, not interlaced.
        _write_png_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        written = 0
        for band in bands:
            if band.shape[1] != width:
                raise ValueError(f"{path}: a band of {band.shape[1]} columns, expected {width}")
            # Each row begins with its filter; 0 leaves the values as they are.
            _write_png_chunk(file, b"IDAT", packer.compress(np.pad(band, ((0, 0), (1, 0))).tobytes()))
            written += len(band)
        if written != height:
            raise ValueError(f"{path}: {written} rows, expected {height}")
        _write_png_chunk(file, b"IDAT", packer.flush())
        _write_png_chunk(file, b"IEND", b"")


def _write_png_chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
