"""Images of more than 8 bits per channel: their full values, where Pillow alone keeps only the high byte of colours."""

import struct
import sys
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from guidino_cli.errors import DataError

_PHOTOMETRIC = 262
"""TIFF tag; 0 means that 0 is white."""
_BITS, _SAMPLE_FORMAT = 258, 339
"""TIFF tags, one value per channel; format 2 is signed."""
_TAIL, _HOT = 0.01, 0.001
"""The mean of this share of the pixels at either end becomes black or white, without the outermost, such as hot pixels.
"""


def is_deep(mode: str) -> bool:
    """Whether pixels of a mode have more than 8 bits: Pillow's `I;16`, `I` and `F`, and `RGB;16` of `deep_mode`."""
    return mode.startswith(("I", "F")) or mode.endswith(";16")


def deep_mode(file: Image.Image) -> str:
    """Pillow's mode of an open file that is not decoded yet; `RGB;16`, `RGBA;16` or `LA;16` for 16-bit colours."""
    raw_mode = _raw_mode(file)
    if ";16" not in raw_mode or is_deep(file.mode):
        return file.mode
    # Pillow expands grey and alpha to RGBA.
    return "LA;16" if raw_mode.startswith("LA") else f"{file.mode};16"


def require_faithful(file: Image.Image, path: Path) -> None:
    """Refuse a TIFF of more than 8 bits, of which Pillow would read only 8, such as colours in separate planes.

    Raises:
        DataError: It is one.
    """
    bits = max(getattr(file, "tag_v2", {}).get(_BITS, (1,)))
    if bits > 8 and not is_deep(deep_mode(file)):
        raise DataError(
            f"{path}: has {bits}-bit {file.mode} pixels in a layout of which only 8 bits can be read; save it with "
            "interleaved channels (planar configuration 1)"
        )


def require_unsigned(file: Image.Image, path: Path) -> None:
    """Refuse a decoded TIFF with negative numbers of 8 bits, which Pillow takes for 128 to 255.

    Raises:
        DataError: It has some.
    """
    tags = getattr(file, "tag_v2", {})
    is_signed = max(tags.get(_BITS, (1,))) == 8 and 2 in tags.get(_SAMPLE_FORMAT, ())
    if is_signed and int(np.asarray(file).max()) > 127:
        raise DataError(f"{path}: has negative pixels (signed, of 8 bits); save it with values from 0")


def read_deep(file: Image.Image, path: Path) -> np.ndarray:
    """Decode an image of more than 8 bits, with the EXIF rotation applied.

    Args:
        file: Open, not decoded yet, with `is_deep(deep_mode(file))`.
        path: Its path.

    Returns:
        (H, W) or (H, W, C) values of the file's type, C = 2 (grey, alpha), 3 or 4; 0 is black.

    Raises:
        DataError: A kind of pixel that cannot be read in full.
    """
    mode = deep_mode(file)
    if mode == "LA;16":
        return _read_grey_alpha(path)
    if mode in {"RGB;16", "RGBA;16"}:
        high, low = (_decode_bytes(path, order) for order in ("B", "L"))
        if _is_little_endian(_raw_mode(file)):
            high, low = low, high
        return high.astype(np.uint16) << 8 | low
    if mode.endswith(";16") and mode != file.mode:
        raise DataError(f"{path}: has 16-bit pixels of kind {file.mode}, expected grey or RGB; save it as RGB")
    is_white_zero = getattr(file, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    file.load()
    ImageOps.exif_transpose(file, in_place=True)
    values = np.asarray(file)
    if not is_white_zero:
        return values
    if values.dtype != np.uint16:
        raise DataError(f"{path}: has pixels of 32 bits of which 0 is white; save it with 0 as black")
    return 65535 - values


def rescale_to_uint8(values: np.ndarray, path: Path) -> np.ndarray:
    """Scale so that the means of the lowest and of the highest hundredth of the values become 0 and 255.

    The outermost thousandth does not count. Means change steadily with the share of bright pixels, where a percentile
    jumps.

    Raises:
        DataError: A value is NaN or infinite.
    """
    require_finite(values, path)
    size = values.size
    hot = int(_HOT * size)
    end = max(hot + 1, round(_TAIL * size))
    ordered = np.partition(values, sorted({max(hot - 1, 0), end - 1, size - end, min(size - hot, size - 1)}), axis=None)
    tails = ordered[hot:end], ordered[size - end : size - hot]
    low, high = (float(tail.mean(dtype=np.float64)) for tail in tails)
    scaled = (values - low) / max(high - low, 1e-6)
    return (scaled.clip(0, 1) * 255).round().astype(np.uint8)


def require_finite(values: np.ndarray, path: Path) -> None:
    """Refuse an image with unknown pixels: any value put in their place would be a guess.

    Raises:
        DataError: A value is NaN or infinite.
    """
    unknown = values.size - np.count_nonzero(np.isfinite(values))
    if unknown:
        raise DataError(
            f"{path}: {unknown:,} of {values.size:,} pixel values are NaN or infinite; replace them, or crop the image"
        )


def _raw_mode(file: Image.Image) -> str:
    """Pillow's name of the stored order of bytes, such as `RGB;16B`; "" if it is unknown."""
    tiles = getattr(file, "tile", None)
    if not tiles:
        return ""
    options = tiles[0][3]
    return str(options[0] if isinstance(options, tuple) else options)


def _is_little_endian(raw_mode: str) -> bool:
    return raw_mode.endswith("L") or (raw_mode.endswith("N") and sys.byteorder == "little")


def _decode_bytes(path: Path, order: str) -> np.ndarray:
    """One byte of every 16-bit value, (H, W, C) uint8: the first as stored for order "B", the second for "L"."""
    with Image.open(path) as file:
        raw_mode = f"{file.mode};16{order}"
        tiles = []
        for tile in file.tile:
            codec, extents, offset, options = tile
            options = (raw_mode, *options[1:]) if isinstance(options, tuple) else raw_mode
            tiles.append(type(tile)(codec, extents, offset, options))
        file.tile = tiles
        file.load()
        ImageOps.exif_transpose(file, in_place=True)
        return np.asarray(file)


def _read_grey_alpha(path: Path) -> np.ndarray:
    """A PNG of 16-bit grey and alpha: (H, W, 2) uint16.

    Its pixels have the layout of 8-bit RGBA, as which they are decoded after a change of the header.
    """
    content = path.read_bytes()
    header = bytearray(content[12:29])
    if content[:8] != b"\x89PNG\r\n\x1a\n" or header[:4] != b"IHDR":
        raise DataError(f"{path}: has 16-bit pixels of grey and alpha; save it without alpha")
    header[12:14] = bytes((8, 6))
    changed = content[:12] + bytes(header) + struct.pack(">I", zlib.crc32(header)) + content[33:]
    with Image.open(BytesIO(changed)) as file:
        file.load()
        ImageOps.exif_transpose(file, in_place=True)
        stored = np.asarray(file).astype(np.uint16)
    return stored[..., 0::2] << 8 | stored[..., 1::2]
