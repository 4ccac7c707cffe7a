"""Target spacing of a data set of volumes: values of `prepare --spacing`, and nnU-Net's rule for `auto`."""

from collections.abc import Sequence
from math import isfinite

import numpy as np

from guidino_cli.errors import ConfigError, DataError

Spacing = tuple[float, float, float]
"""Distances between voxels along Z, Y and X, in mm."""
Target = tuple[float | None, float | None, float | None]
"""Spacing to resample to along Z, Y and X, in mm; None keeps that of each volume."""
Shape = tuple[int, int, int]

KEEP: Target = (None, None, None)
ANISOTROPY = 3.0
"""An axis is coarse if its spacing is more than so many times that of the others (nnU-Net 2.8.1)."""
_COARSE_PERCENTILE = 10


def target_spacing(spacings_mm: Sequence[Spacing], shapes: Sequence[Shape]) -> Spacing:
    """The spacing that nnU-Net 2.8.1 resamples a data set to: the median along each axis.

    If one axis is coarse, its spacing more than three times the others' and its voxels fewer than a third of theirs,
    its spacing is the 10th percentile instead, so that the many thick slices are rather interpolated than the few thin
    ones thrown away. It does not become finer than the other axes.

    Args:
        spacings_mm: Spacing of each training volume in mm, in any order of axes.
        shapes: Voxels of each volume along the same axes, after cropping to its non-zero voxels.

    Raises:
        DataError: No volume.
    """
    if not spacings_mm:
        raise DataError("no volume to take the spacing from; there must be a training case")
    spacings = np.asarray(spacings_mm, dtype=np.float64)
    target = np.percentile(spacings, 50, axis=0)
    voxels = np.percentile(np.asarray(shapes), 50, axis=0)
    coarse = int(target.argmax())
    finest_allowed = np.delete(target, coarse).max()
    is_coarse = target[coarse] > ANISOTROPY * finest_allowed
    has_few_voxels = voxels[coarse] * ANISOTROPY < np.delete(voxels, coarse).min()
    if is_coarse and has_few_voxels:
        target[coarse] = np.percentile(spacings[:, coarse], _COARSE_PERCENTILE)
        if target[coarse] < finest_allowed:
            # nnU-Net's margin keeps this axis the one of the largest spacing.
            target[coarse] = finest_allowed + 1e-5
    first, second, third = (float(value) for value in target)
    return first, second, third


def parse_spacing(text: str) -> Target | None:
    """Read the value of `--spacing`: `keep`, `auto`, or Z,Y,X in mm, where an axis may be `keep`.

    `keep,0.45,0.45` resamples slices alone.

    Returns:
        The target; None for `auto`, the rule of `target_spacing`.

    Raises:
        ConfigError: Anything else.
    """
    if text == "auto":
        return None
    if text == "keep":
        return KEEP
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != len(KEEP):
        raise ConfigError(f"--spacing is '{text}', expected keep, auto, or Z,Y,X in mm such as 2.5,0.8,0.8")
    first, second, third = (None if part == "keep" else _parse_mm(part, text) for part in parts)
    return first, second, third


def _parse_mm(part: str, text: str) -> float:
    try:
        value = float(part)
    except ValueError:
        value = 0.0
    if not isfinite(value) or value <= 0:
        raise ConfigError(f"--spacing is '{text}': '{part}' is neither keep nor a number of mm above 0")
    return value


def format_spacing(target_mm: Target) -> str:
    """Format a target as `--spacing` takes it, to four significant digits: `keep`, or `keep,0.4464,0.4464`."""
    if target_mm == KEEP:
        return "keep"
    return ",".join("keep" if value is None else f"{value:.4g}" for value in target_mm)


def spacing_for_patch(spacing_mm: Sequence[float], patch: Sequence[int], *, side: int) -> tuple[float, ...]:
    """Spacing at which `side` voxels along each axis show what a patch does: MedDINOv3's way to 896 px.

    Li et al. 2025 multiply the spacing of nnU-Net's two-dimensional plan by its patch and divide by 896: 0.78125 mm and
    512 px make 0.4464 mm.
    """
    return tuple(spacing * voxels / side for spacing, voxels in zip(spacing_mm, patch, strict=True))
