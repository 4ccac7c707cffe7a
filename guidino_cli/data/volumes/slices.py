"""Cut CT or MR volumes into 8-bit axial slices."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from guidino_cli.data.volumes.nifti import NiftiRegions, open_regions
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.types import Geometry


def parse_orientation(text: str) -> str:
    """Directions of three axes in capitals, such as RAS or LPS.

    Raises:
        ConfigError: Not one letter each of R or L, A or P, S or I, in any order.
    """
    axes, lines = text.upper(), {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}
    if len(axes) != 3 or {lines.get(letter) for letter in axes} != {0, 1, 2}:
        raise ConfigError(f"--orientation {text}: expected three letters such as RAS or LPS")
    return axes


@dataclass(frozen=True)
class SliceSettings:
    """Selection and appearance of slices. Defaults: soft tissue of a CT, resized as MedDINOv3's CT-3M.

    Attributes:
        window: Level and width in the volume's units (HU for CT), mapped to 0..255; None takes the 0.5 and 99.5
            percentiles of the volume, for MR.
        size: Side of the square that every slice is resized to; None resamples to `spacing_mm` instead.
        spacing_mm: Pixel size where `size` is None.
        every: Step from one slice to the next.
        least: Smallest share of pixels above the window's lower end; slices with less are skipped as air.
        orientation: Directions of the axes, such as "LPS", of volumes whose header states none; None refuses those.
    """

    window: tuple[float, float] | None = (40.0, 400.0)
    size: int | None = 256
    spacing_mm: float = 0.45
    every: int = 1
    least: float = 0.05
    orientation: str | None = None


def open_grey_volume(path: Path) -> NiftiRegions:
    """Open a volume of three dimensions that has one number per voxel.

    Raises:
        DataError: Missing, damaged, or no such volume.
    """
    volume = open_regions(path)
    stored = volume.stored
    if stored.ndim != 3 or stored.size == 0 or stored.dtype.kind not in "iuf":
        raise DataError(f"{path}: expected a grey three-dimensional volume, found {stored.shape} {stored.dtype}")
    return volume


def cut_slices(volume: NiftiRegions, settings: SliceSettings) -> Iterator[tuple[int, np.ndarray]]:
    """Cut a volume into axial slices, from the feet up.

    Args:
        volume: From `open_grey_volume`.
        settings: Which slices, and how they look.

    Yields:
        Number of the slice in the volume, and (H, W) uint8 as radiologists view it: from below, the front on top.

    Raises:
        DataError: The header does not say where the axes point.
    """
    volume = volume.to_ras(axes_where_unknown=settings.orientation)
    low, high = _intensity_limits(volume, settings)
    width, height, depth = volume.geometry.shape
    for number in range(0, depth, settings.every):
        region = volume.read_region(slice(0, width), slice(0, height), slice(number, number + 1))
        values = region[..., 0].astype(np.float32, copy=False)
        if np.mean(values > low) < settings.least:
            continue
        grey = (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-6)
        # Rows from front to back, columns from the patient's right, which a reader sees on the left.
        picture = Image.fromarray(np.ascontiguousarray(grey.clip(0, 1)[::-1, ::-1].T * 255))
        resized = picture.resize(_slice_size(volume.geometry, settings), Image.Resampling.BILINEAR)
        yield number, np.asarray(resized).round().clip(0, 255).astype(np.uint8)


def _intensity_limits(volume: NiftiRegions, settings: SliceSettings) -> tuple[float, float]:
    if settings.window is not None:
        level, width = settings.window
        return level - width / 2, level + width / 2
    # One voxel in 27 is enough for the percentiles of a volume, and needs no copy of it.
    sample = volume.read_region(*[slice(None, None, 3)] * 3).astype(np.float32, copy=False)
    low, high = np.nanpercentile(sample, (0.5, 99.5))
    return float(low), float(high)


def _slice_size(geometry: Geometry, settings: SliceSettings) -> tuple[int, int]:
    """Width and height of a slice in pixels."""
    if settings.size is not None:
        return settings.size, settings.size
    counts = zip(geometry.shape[:2], geometry.spacing[:2], strict=True)
    width, height = (max(1, round(count * mm / settings.spacing_mm)) for count, mm in counts)
    return width, height
