"""Pictures of any number of channels and bits, read as volumes of one slice that keep their numbers.

`images.read_image` gives 8-bit RGB, which suits photographs. Fluorescence channels or 16-bit radiographs lose by it; as
volumes of one slice they are stored, mapped (`data.intensity`) and predicted like CT or MR.
"""

from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.data import images
from guidino_cli.data.limits import require_pixels
from guidino_cli.data.regions import TIFF_SUFFIXES
from guidino_cli.data.volumes.grid import SourceVolume
from guidino_cli.errors import DataError
from guidino_cli.types import Geometry


def read_source(path: Path) -> SourceVolume:
    """Read a picture with all its channels and bits; alpha is dropped, and palettes become their colours.

    Returns:
        (X, Y, 1) or, of several channels, (X, Y, 1, C), in the numbers of the file.

    Raises:
        DataError: The file cannot be read as an image.
    """
    values = _read_bands(path) if path.suffix.lower() in TIFF_SUFFIXES else None
    if values is None:
        values = images.read_deep_values(path)
        values = _read_plain(path) if values is None else images.drop_alpha(values)
    across = values.swapaxes(0, 1)[:, :, None]
    return SourceVolume(across, Geometry.of_pixels(str(path), across.shape[:3]))


def read_labels(path: Path) -> SourceVolume:
    """Read a mask of class indices, or of black and white: (X, Y, 1) as stored.

    Raises:
        DataError: The file cannot be read as an image, or has colours.
    """
    values, _ = images.read_labels(path)
    if values.ndim != 2:
        raise DataError(f"{path}: is a mask of colours, expected one class index a pixel, or black and white")
    return SourceVolume(values.T[:, :, None], Geometry.of_pixels(str(path), (*values.T.shape, 1)))


def _read_plain(path: Path) -> np.ndarray:
    """(H, W) of grey images, (H, W, 3) of all others."""
    image = images.open_image(path)
    return np.asarray(
        image if image.mode in {"L", "RGB"} else image.convert("L" if image.mode in {"LA", "1"} else "RGB")
    )


def _read_bands(path: Path) -> np.ndarray | None:
    """(H, W, C) of a TIFF of two bands, or of more than four, which Pillow cannot read; None for others."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages[0]
            bands = int(page.samplesperpixel)
            if len(file.pages) > 1 or bands in (1, 3, 4) or page.dtype is None or page.dtype.kind not in "uif":
                return None
            require_pixels(path, (*page.shape[:2], bands))
            values = page.asarray()
    except DataError:
        raise
    except Exception:  # tifffile lets struct, type and many other errors of damaged files through
        # Pillow reports what is wrong with the file.
        return None
    return np.moveaxis(values, 0, -1) if values.shape[0] == bands and values.shape[-1] != bands else values
