"""Limit of the pixels of a file: a hundred bytes can claim, or unpack to, more than any memory holds."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from guidino_cli.errors import ConfigError, DataError

VARIABLE = "GUIDINO_MAX_PIXELS"
_MAX_PIXELS = 178_956_970
"""Of images, the limit of Pillow and of most programs that use it: RGB pixels of 0.7 GB as Pillow holds them."""
_MAX_VOXELS = 512 * 512 * 2000
"""Of volumes: a CT of 2,000 slices, 1 GB as 16-bit numbers."""
_MAX_UNPACKING = 1032
"""Deflate, which gzip, PNG and TIFF use, cannot make more bytes out of one."""


def max_pixels(*, is_volume: bool = False) -> int:
    """The largest number of pixels or voxels of a file that is decoded as a whole.

    Raises:
        ConfigError: The environment variable GUIDINO_MAX_PIXELS is no positive integer.
    """
    text = os.environ.get(VARIABLE, "").replace("_", "").replace(",", "")
    if not text:
        return _MAX_VOXELS if is_volume else _MAX_PIXELS
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise ConfigError(f"{VARIABLE}={os.environ[VARIABLE]}: expected a number of pixels, such as {_MAX_PIXELS}")
    return int(text)


def require_pixels(path: Path, shape: Sequence[int], *, is_volume: bool = False, advice: str = "") -> None:
    """Refuse a file with too many pixels before any of them is decoded.

    Args:
        path: The file.
        shape: Sizes in its header: (height, width) of an image, any of an array or volume.
        is_volume: Whether the limit is that of volumes.
        advice: What else helps than a higher limit.

    Raises:
        DataError: There are more pixels than `max_pixels`.
    """
    count, limit = math.prod(int(size) for size in shape), max_pixels(is_volume=is_volume)
    if count > limit:
        what = "voxels" if is_volume else "pixels"
        size = " x ".join(str(int(length)) for length in (shape if is_volume else shape[1::-1]))
        raise DataError(
            f"{path}: claims {size} {what}, more than {VARIABLE}={limit} allows; raise that if the file is not damaged"
            + (f", or {advice}" if advice else "")
        )


def require_unpackable(path: Path, stored_bytes: int, claimed_bytes: int) -> None:
    """Refuse a compressed file that claims more bytes than its compression can make of those that it has.

    Raises:
        DataError: It must be damaged or truncated.
    """
    if claimed_bytes > _MAX_UNPACKING * (stored_bytes + 1024):
        raise DataError(
            f"{path}: claims {claimed_bytes:,} bytes of values, but has only {stored_bytes:,} bytes of compressed "
            "data; it is damaged or truncated, replace it"
        )
