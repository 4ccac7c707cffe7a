"""Write an 8-bit grey PNG row by row: Pillow would have to hold all of it."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from guidino_cli.files import write_atomically


def write_label_rows(path: Path, size_hw: tuple[int, int], bands: Iterable[np.ndarray]) -> None:
    """Write class indices as a PNG, atomically.

    Args:
        path: Of the PNG.
        size_hw: Height and width.
        bands: (rows, W) uint8 from top to bottom; together H rows.

    Raises:
        ResourceError: The disk is full or the place cannot be written.
        ValueError: The bands have another width, or other rows in all.
    """
    write_atomically(path, lambda place: _write(place, size_hw, bands))


def _write(path: Path, size_hw: tuple[int, int], bands: Iterable[np.ndarray]) -> None:
    height, width = size_hw
    packer = zlib.compressobj(3)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        # 8 bits, grey, deflate, filters of the standard, not interlaced.
        _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        written = 0
        for band in bands:
            if band.shape[1] != width:
                raise ValueError(f"{path}: a band of {band.shape[1]} columns, expected {width}")
            # Each row begins with its filter; 0 leaves the values as they are.
            _chunk(file, b"IDAT", packer.compress(np.pad(band, ((0, 0), (1, 0))).tobytes()))
            written += len(band)
        if written != height:
            raise ValueError(f"{path}: {written} rows, expected {height}")
        _chunk(file, b"IDAT", packer.flush())
        _chunk(file, b"IEND", b"")


def _chunk(file: BinaryIO, kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
