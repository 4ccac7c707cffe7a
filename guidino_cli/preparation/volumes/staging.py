"""Read one volume and its mask, check them, and keep them as arrays until the classes and the spacing are known."""

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from guidino_cli.data.file_records import record_file
from guidino_cli.data.volumes.cropping import nonzero_box
from guidino_cli.data.volumes.grid import Grid
from guidino_cli.data.volumes.preprocessing import count_nonfinite, to_stored_grid
from guidino_cli.data.volumes.reading import read_volume, read_volume_labels
from guidino_cli.data.volumes.resampling import Size, Spacing
from guidino_cli.data.volumes.spacing import KEEP, Target
from guidino_cli.data.volumes.stored import NUMPY_SUFFIX, save_array
from guidino_cli.errors import DataError
from guidino_cli.preparation.options import VolumeConfig
from guidino_cli.preparation.types import ImageMaskPair
from guidino_cli.preparation.volume_kinds import looks_like_hu
from guidino_cli.types import ChannelStatistics, FileRecord, VolumeSource

_MAX_VALUES = 65536
"""Values that a mask may hold; instances of a large volume are fewer."""


@dataclass(frozen=True, eq=False)
class StagedVolume:
    """Facts of a volume whose arrays are on disk.

    Attributes:
        pair: Its files.
        sources: The files of the channels.
        grid: Grid of the first channel.
        record: Of the file of the first channel; None for a DICOM series.
        voxels: Value of the mask -> voxels with it.
        cropped: Z, Y, X of the box around the voxels that are not zero.
        shape: Z, Y, X of the stored arrays.
        spacing_mm: Voxel size of the stored arrays.
        long_axis: Axis that was resampled by itself; see `resampling.find_long_axis`.
        statistics: Statistics of all stored voxels, one per channel.
        nonfinite: Voxels that were NaN or infinite.
        is_hu: Whether the values of the first channel can be Hounsfield units.
        notes: What a user should know of its reading.
    """

    pair: ImageMaskPair
    sources: tuple[VolumeSource, ...]
    grid: Grid
    record: FileRecord | None
    voxels: Mapping[int, int]
    cropped: Size
    shape: Size
    spacing_mm: Spacing
    long_axis: int | None
    statistics: tuple[ChannelStatistics, ...]
    nonfinite: int = 0
    is_hu: bool = False
    notes: tuple[str, ...] = field(default=())


def array_paths(folder: Path, case: str, suffix: str) -> tuple[Path, Path, Path]:
    """Paths of the image, the labels and the foreground of a case in a prepared folder."""
    image, labels, foreground = (folder / kind / f"{case}{suffix}" for kind in ("volumes", "labels", "foreground"))
    return image, labels, foreground.with_name(f"{case}{NUMPY_SUFFIX}")


def staged_labels_path(folder: Path, case: str) -> Path:
    """Path of the values of a mask until the classes are known."""
    return folder / ".staged" / f"{case}{NUMPY_SUFFIX}"


def staged_image_path(folder: Path, case: str) -> Path:
    """Path of a volume until the spacing is known."""
    return folder / ".staged" / f"{case}_image{NUMPY_SUFFIX}"


def remove_unused(folder: Path, used: Collection[str]) -> None:
    """Remove what was staged, and the volumes of cases that turned out to be unusable after they were read."""
    shutil.rmtree(folder / ".staged", ignore_errors=True)
    for path in (folder / "volumes").iterdir():
        if path.stem not in used:
            path.unlink()


def stage_volume(pair: ImageMaskPair, channels: int, config: VolumeConfig, folder: Path | None) -> StagedVolume:
    """Read and check a volume and its mask; one of them is in memory at a time.

    Args:
        pair: Its files.
        channels: Number of channels that are expected.
        config: Settings of the command.
        folder: Where arrays go; None to only look.

    Raises:
        DataError: A file cannot be used.
        DependencyError: A package is missing.
    """
    series = pair.series or (None,) * len(pair.images)
    sources = tuple(VolumeSource(path, key) for path, key in zip(pair.images, series, strict=True))
    grid, facts = _stage_image(pair, sources, channels, config, folder)
    labels = read_volume_labels(VolumeSource(pair.masks[0]), grid, ignore_headers=config.ignore_headers)
    voxels = count_values(labels, pair.masks[0])
    if folder is not None:
        kind = np.result_type(*(np.min_scalar_type(value) for value in voxels))
        save_array(staged_labels_path(folder, pair.id), labels.astype(kind, copy=False))
    record = None if sources[0].path.is_dir() else record_file(sources[0].path, with_time=True)
    return StagedVolume(pair, sources, grid, record, voxels, **facts)


def _stage_image(
    pair: ImageMaskPair,
    sources: tuple[VolumeSource, ...],
    channels: int,
    config: VolumeConfig,
    folder: Path | None,
) -> tuple[Grid, dict]:
    volume = read_volume(
        sources,
        channels=channels,
        orientation=config.orientation,
        ignore_headers=config.ignore_headers,
        onto=config.onto_position,
    )
    # The spacing of `auto` is known when all volumes are.
    target: Target = config.spacing_mm or KEEP
    stored = to_stored_grid(volume, target if folder is not None else KEEP)
    if folder is not None:
        final = array_paths(folder, pair.id, config.array_suffix)[0]
        save_array(staged_image_path(folder, pair.id) if config.spacing_mm is None else final, stored.values)
    _, z, y, x = stored.values.shape
    facts = {
        "cropped": nonzero_box(volume.values),
        "shape": (z, y, x),
        "spacing_mm": stored.spacing_mm,
        "long_axis": stored.long_axis,
        "statistics": stored.statistics,
        "nonfinite": count_nonfinite(volume.values),
        # One voxel in 27 is enough for a share.
        "is_hu": looks_like_hu(stored.values[0, ::3, ::3, ::3]),
        "notes": volume.notes,
    }
    return volume.grid, facts


def count_values(labels: np.ndarray, path: Path) -> dict[int, int]:
    """Voxels of each value of a mask, by rising value.

    Raises:
        DataError: So many values that they are no labels.
    """
    counts: dict[int, int] = {}
    # A plane at a time: sorting all voxels would need their memory several times.
    for plane in labels:
        for value, count in zip(*(part.tolist() for part in _count(plane)), strict=True):
            counts[value] = counts.get(value, 0) + count
        if len(counts) > _MAX_VALUES:
            raise DataError(f"{path}: has more than {_MAX_VALUES:,} values, expected labels; is it the volume itself?")
    return {int(value): counts[value] for value in sorted(counts)}


def _count(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of a plane and how often they occur."""
    if plane.size and plane.min() >= 0 and plane.max() < _MAX_VALUES:
        counts = np.bincount(plane.ravel())
        values = np.flatnonzero(counts)
        return values, counts[values]
    return np.unique(plane, return_counts=True)
