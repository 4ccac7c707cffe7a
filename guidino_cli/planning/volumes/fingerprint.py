"""Fingerprint of a prepared data set of volumes: what nnU-Net's planning rules depend on, and what a table shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from guidino_cli.data.manifest import Manifest
from guidino_cli.data.volumes.cropping import nonzero_box
from guidino_cli.data.volumes.spacing import Shape, Spacing, Target
from guidino_cli.data.volumes.stored import open_array
from guidino_cli.errors import DataError
from guidino_cli.planning.fingerprint import ClassStatistics
from guidino_cli.types import Case, ChannelStatistics, StoredVolume


@dataclass(frozen=True)
class VolumeFingerprint:
    """Statistics of the training volumes of a data set; axes are Z, Y, X.

    Attributes:
        cases: Number of labelled training volumes.
        channels: Names of the channels.
        spacings_mm: Spacing of each volume.
        shapes: Size of each stored volume in voxels.
        cropped: Size of the box around its non-zero voxels.
        kept: Median share of the voxels that this box holds, in [0, 1].
        prepared_mm: Spacing that the data was prepared with; None for an axis on which each volume keeps its own.
        statistics: Intensities of the training foreground, one per channel.
        classes: Statistics of every foreground class; shares are of all voxels of a volume.
    """

    cases: int
    channels: tuple[str, ...]
    spacings_mm: tuple[Spacing, ...]
    shapes: tuple[Shape, ...]
    cropped: tuple[Shape, ...]
    kept: float
    prepared_mm: Target
    statistics: tuple[ChannelStatistics, ...]
    classes: tuple[ClassStatistics, ...]


def extract_volume_fingerprint(
    manifest: Manifest, cases: Sequence[Case], *, done: Callable[[], None] = lambda: None
) -> VolumeFingerprint:
    """Compute the fingerprint, reading every stored volume once.

    Args:
        manifest: A prepared data set of volumes.
        cases: Its training cases.
        done: Called after every volume.

    Raises:
        DataError: No labelled case, or an array that cannot be read.
    """
    volumes = [case.volume for case in cases if case.volume is not None and case.volume.labels is not None]
    if not volumes:
        raise DataError("no labelled training case; see the splits in cases.json, made by `guidino prepare`")
    prepared = _as_target(manifest.spacing_mm)
    shares: list[list[float]] = [[] for _ in manifest.classes]
    cropped = []
    for volume in volumes:
        cropped.append(nonzero_box(open_array(volume.image)))
        counts = _count_classes(volume, len(manifest.classes))
        for index in np.flatnonzero(counts):
            shares[index].append(float(counts[index] / prod(volume.shape)))
        done()
    return VolumeFingerprint(
        cases=len(volumes),
        channels=manifest.channels,
        # Stored spacings fill the extent of the source exactly; those that were asked for are what nnU-Net goes by.
        spacings_mm=tuple(_fill(prepared, volume.spacing_mm) for volume in volumes),
        shapes=tuple(volume.shape for volume in volumes),
        cropped=tuple(cropped),
        kept=float(np.median([prod(box) / prod(v.shape) for box, v in zip(cropped, volumes, strict=True)])),
        prepared_mm=prepared,
        statistics=manifest.statistics,
        classes=tuple(_describe(name, shares[index]) for index, name in enumerate(manifest.classes) if index > 0),
    )


def _as_target(spacing_mm: Sequence[float | None]) -> Target:
    z, y, x = spacing_mm
    return z, y, x


def _fill(prepared: Target, own: Spacing) -> Spacing:
    z, y, x = (mine if target is None else target for target, mine in zip(prepared, own, strict=True))
    return z, y, x


def _count_classes(volume: StoredVolume, classes: int) -> np.ndarray:
    """Voxels of each class; values that are none, such as those of the ignore label, are left out."""
    if volume.labels is None:
        return np.zeros(classes, dtype=np.int64)
    labels = open_array(volume.labels)
    counts = np.zeros(classes, dtype=np.int64)
    for number in range(labels.shape[0]):
        counts += np.bincount(np.asarray(labels[number]).ravel(), minlength=classes)[:classes]
    return counts


def _describe(name: str, shares: Sequence[float]) -> ClassStatistics:
    return ClassStatistics(name, len(shares), float(np.median(shares)) if shares else 0.0, min(shares, default=0.0))
