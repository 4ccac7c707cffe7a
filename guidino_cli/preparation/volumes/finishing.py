"""Make the stored arrays of a case from the staged ones, once the classes and the spacing are known."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from guidino_cli.data.cases import IGNORED
from guidino_cli.data.file_records import record_file
from guidino_cli.data.volumes.grid import Grid, Volume
from guidino_cli.data.volumes.intensities import measure_channel
from guidino_cli.data.volumes.preprocessing import to_stored_grid
from guidino_cli.data.volumes.resampling import resample_labels, resample_nearest
from guidino_cli.data.volumes.spacing import Target
from guidino_cli.data.volumes.stored import open_array, save_array
from guidino_cli.data.volumes.writing import write_volume_labels
from guidino_cli.preparation.options import VolumeConfig
from guidino_cli.preparation.types import ImageMaskPair
from guidino_cli.preparation.volumes.labels import LabelTable
from guidino_cli.preparation.volumes.staging import (
    StagedVolume,
    array_paths,
    staged_image_path,
    staged_labels_path,
)
from guidino_cli.types import Case, ChannelStatistics, StoredVolume

VOXELS_A_CLASS = 10_000
"""Foreground voxels of a class that are kept for sampling, as in nnU-Net."""
MAX_MEASURED = 10_000_000
"""Voxels of the training foreground that are measured, evenly spread."""


def finish_volume(
    staged: StagedVolume, table: LabelTable, target: Target, config: VolumeConfig, folder: Path
) -> StagedVolume:
    """Write image, labels, foreground and mask of a case, and remove what was staged.

    Args:
        staged: Staged arrays of the case.
        table: Classes of the values.
        target: Spacing of the data set along Z, Y, X.
        config: Settings of the command.
        folder: The prepared folder.

    Returns:
        The facts, with those of the arrays as they are stored.
    """
    case = staged.pair.id
    image_path, labels_path, foreground_path = array_paths(folder, case, config.array_suffix)
    if config.spacing_mm is None:
        path = staged_image_path(folder, case)
        stored = to_stored_grid(Volume(np.asarray(open_array(path)), staged.grid), target)
        save_array(image_path, stored.values)
        _, z, y, x = stored.values.shape
        staged = replace(
            staged,
            shape=(z, y, x),
            spacing_mm=stored.spacing_mm,
            long_axis=stored.long_axis,
            statistics=stored.statistics,
        )
        path.unlink()
    path = staged_labels_path(folder, case)
    labels = table.apply(np.asarray(open_array(path)), staged.voxels)
    write_volume_labels(mask_path(folder, case, staged.grid), labels, staged.grid)
    if table.instances is None:
        labels = resample_labels(labels, staged.shape, long_axis=staged.long_axis)
    else:
        labels = resample_nearest(labels, staged.shape)
    save_array(labels_path, labels)
    classes = labels if table.instances is None else (labels > 0).astype(np.uint8)
    save_array(foreground_path, sample_foreground(classes, len(table.names), name=case))
    path.unlink()
    return staged


def mask_path(folder: Path, case: str, grid: Grid) -> Path:
    """Path of the class indices of a case in the grid of its source: NIfTI, or PNG for an image."""
    return folder / "masks" / f"{case}{'.png' if grid.is_picture else '.nii.gz'}"


def sample_foreground(labels: np.ndarray, classes: int, *, name: str, most: int = VOXELS_A_CLASS) -> np.ndarray:
    """Choose voxels of each foreground class, at random but the same ones each time.

    Args:
        labels: (Z, Y, X) class indices.
        classes: Number of classes; larger indices do not count.
        name: Id of the case, which seeds the choice.
        most: Voxels of a class.

    Returns:
        (N, 4) int32 rows of class, z, y, x, in this order; (0, 4) without foreground.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    generator = np.random.default_rng(seed)
    flat, rows = labels.ravel(), []
    for index in np.unique(labels).tolist():
        if not 0 < index < classes:
            continue
        where = np.flatnonzero(flat == index)
        if len(where) > most:
            where = np.sort(generator.choice(where, most, replace=False))
        z, y, x = np.unravel_index(where, labels.shape)
        rows.append(np.stack([np.full(len(where), index), z, y, x], axis=1).astype(np.int32))
    return np.concatenate(rows) if rows else np.zeros((0, 4), dtype=np.int32)


def make_case(pair: ImageMaskPair, staged: StagedVolume, table: LabelTable, config: VolumeConfig, folder: Path) -> Case:
    """The manifest entry of a case; `pair` has its split."""
    counts = table.count(staged.voxels)
    image, labels, foreground = array_paths(folder, pair.id, config.array_suffix)
    mask = mask_path(folder, pair.id, staged.grid)
    _, height, width = staged.grid.shape
    return Case(
        id=pair.id,
        image=pair.images[0],
        mask=mask,
        split=pair.split or "train",
        fold=pair.fold,
        group=pair.group or pair.id,
        size_hw=(height, width),
        # Significant digits, not decimals: one voxel of a large volume is foreground, too.
        foreground=float(f"{counts[1:].sum() / np.prod(staged.grid.shape):.6g}"),
        fields=pair.fields | ({"stratum": pair.stratum} if pair.stratum else {}),
        image_record=staged.record,
        mask_record=record_file(mask, with_time=False) if mask.is_file() else None,
        ignore_label=None if table.ignored is None else IGNORED,
        volume=StoredVolume(
            sources=staged.sources,
            image=image,
            labels=labels,
            foreground=foreground,
            shape=staged.shape,
            spacing_mm=staged.spacing_mm,
            statistics=staged.statistics,
            orientation=staged.grid.orientation,
            is_picture=staged.grid.is_picture,
        ),
    )


def measure_foreground(cases: Sequence[Case], channels: int) -> tuple[ChannelStatistics, ...]:
    """Intensities of the foreground voxels of stored volumes, one per channel; zeros without any.

    Of more than `MAX_MEASURED` voxels every second, third, ... is taken, so that large objects keep their weight.
    """
    volumes = [case.volume for case in cases if case.volume is not None and case.foreground]
    total = sum(int(np.count_nonzero(_foreground(volume))) for volume in volumes)
    step = max(1, -(-total // MAX_MEASURED))
    parts: list[list[np.ndarray]] = [[] for _ in range(channels)]
    for volume in volumes:
        where = np.nonzero(_foreground(volume))
        where = tuple(axis[::step] for axis in where)
        image = open_array(volume.image)
        for number in range(channels):
            parts[number].append(np.asarray(image[number])[where])
    return tuple(measure_channel(np.concatenate(values) if values else np.zeros(0)) for values in parts)


def _foreground(volume: StoredVolume) -> np.ndarray:
    """Booleans (Z, Y, X) of the voxels of all classes but the background."""
    assert volume.labels is not None
    labels = np.asarray(open_array(volume.labels)[:])
    return np.asarray((labels != 0) & (labels != IGNORED)) if labels.dtype == np.uint8 else np.asarray(labels != 0)
