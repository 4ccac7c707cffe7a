"""Read a volume of one or more channels with canonical axes, and its labels in the same grid."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from guidino_cli.data.images import is_image
from guidino_cli.data.volumes import itk, nifti, pictures
from guidino_cli.data.volumes.alignment import describe_grid_difference, format_shape, is_same_grid
from guidino_cli.data.volumes.canonical import NO_ORIENTATION, find_orientation, reoriented_affine, turn
from guidino_cli.data.volumes.covering import extend_to_cover
from guidino_cli.data.volumes.dicom import segments
from guidino_cli.data.volumes.dicom.datasets import looks_like_dicom
from guidino_cli.data.volumes.grid import Grid, SourceVolume, Volume
from guidino_cli.data.volumes.nifti import is_volume
from guidino_cli.data.volumes.placing import resample_to_grid
from guidino_cli.errors import DataError
from guidino_cli.progress import pluralize
from guidino_cli.types import Geometry, VolumeSource

_BY_VOXEL = "if only the header is wrong, --ignore-headers takes the files voxel by voxel"

VOLUME_FILE_SUFFIXES = (*nifti.VOLUME_SUFFIXES, *itk.ITK_SUFFIXES)


def is_volume_file(path: Path) -> bool:
    """Whether a path looks like a file with a volume: NIfTI, NRRD or MetaImage; hidden files do not."""
    return is_volume(path) or itk.is_itk_volume(path)


def read_source(source: VolumeSource) -> SourceVolume:
    """Read a file, or a DICOM series, in its own axes; see the readers of the formats for the errors.

    A DICOM series of PET becomes standardised uptake values, which files of other formats hold already.
    """
    if source.series is not None or source.path.is_dir():
        from guidino_cli.data.volumes.dicom.pixels import read_series

        return read_series(source.path, source.series, as_suv=None)
    if is_image(source.path):
        return pictures.read_source(source.path)
    if _is_segmentation(source.path):
        return SourceVolume(*segments.read_labels(source.path))
    return itk.read_source(source.path) if itk.is_itk_volume(source.path) else nifti.read_source(source.path)


def _is_segmentation(path: Path) -> bool:
    """Whether a file is DICOM by its content: archives name segmentations as they like, such as `label.seg`."""
    return not (is_volume_file(path) or is_image(path)) and looks_like_dicom(path)


def read_volume(
    sources: Sequence[VolumeSource],
    *,
    channels: int | None = None,
    orientation: str | None = None,
    ignore_headers: bool = False,
    onto: int = 0,
) -> Volume:
    """Read a volume of one or more channels.

    A channel on another grid is resampled to that of the first one, or of `onto`, linearly, where the headers place it.

    Args:
        sources: One for each channel, or one file that has all of them on its fourth axis.
        channels: Number of channels that are expected; None for one a source.
        orientation: Directions of the axes, such as "RAS", of volumes whose header states none.
        ignore_headers: Take channels voxel by voxel, whatever their headers say about their place.
        onto: Position of the source whose grid is that of the volume; one file has the same grid for all its channels.

    Returns:
        (C, Z, Y, X) in the numbers of the files; where they differ in type, in one that holds all.

    Raises:
        DataError: A file is missing, damaged or has another number of channels, or channels do not overlap.
        DependencyError: The package that reads the format is not installed.
    """
    base = onto if len(sources) > 1 else 0
    first = read_source(sources[base])
    grid = Grid.of(first, sources[base], axes_where_unknown=orientation)
    expected = len(sources) if channels is None else channels
    target_name = f"{sources[base].name}, whose grid is taken," if base else "the first channel"
    parts: list[np.ndarray] = []
    notes: list[str] = []
    for number, source in enumerate(sources):
        if number == base:
            parts.append(_channels_of(first, source, grid.to_canonical))
            continue
        part, note = _read_channel(
            source, grid, orientation=orientation, ignore_headers=ignore_headers, target_name=target_name
        )
        parts.append(part)
        notes += [note] if note else []
    for part, source in zip(parts, sources, strict=True):
        if part.dtype.kind == "f" and any(not np.isfinite(channel).any() for channel in part):
            raise DataError(f"{source.path}: all voxels of a channel are NaN or infinite, expected intensities")
    found = sum(len(part) for part in parts)
    if found != expected:
        raise DataError(_describe_channels(sources, first, found, expected))
    if (skew := _shear_degrees(grid.geometry)) > _MAX_SHEAR_DEGREES:
        notes.append(f"its axes are sheared by {skew:.2g} degrees, which distances in voxels leave out of account")
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return Volume(values, grid, tuple(notes))


def read_volume_labels(source: VolumeSource, grid: Grid, *, ignore_headers: bool = False) -> np.ndarray:
    """Read a label volume that belongs to a volume: (Z, Y, X) integers in the volume's canonical grid.

    Args:
        source: The label file.
        grid: Grid of the volume.
        ignore_headers: Take it voxel by voxel, whatever its header says about its place.

    Raises:
        DataError: Unreadable, values that are no whole numbers, several channels, or on another grid than the volume.
    """
    volume = pictures.read_labels(source.path) if is_image(source.path) else read_source(source)
    if volume.values.ndim != 3:
        raise DataError(
            f"{source.path}: has {volume.values.shape[3]} channels, expected one label per voxel; labels that overlap "
            "cannot be read, save one file for each and prepare them apart"
        )
    labels, geometry = _whole_numbers(volume.values, source.path), volume.geometry
    if _is_segmentation(source.path) and not ignore_headers:
        labels, geometry = extend_to_cover(labels, geometry, grid.geometry)
    return _in_grid(labels, geometry, grid, ignore_headers=ignore_headers)


def as_storable(values: np.ndarray) -> np.ndarray:
    """Values in the smallest of int16, int32 and float32 that holds them without loss; float32 for fractions.

    Values that are not finite stay so in float32.
    """
    if values.dtype.kind == "b":
        return values.astype(np.int16)
    if values.dtype.kind == "f" and not all(_are_whole(part) for part in _slabs(values)):
        return values.astype(np.float32, copy=False)
    low, high = float(values.min()), float(values.max())
    for kind in (np.int16, np.int32):
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return values.astype(kind, copy=False)
    return values.astype(np.float32)


def _slabs(values: np.ndarray) -> Iterator[np.ndarray]:
    """Parts along the last axis, which lie together in files: a copy of one of them takes little memory."""
    return (values[..., number] for number in range(values.shape[-1]))


def _are_whole(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all() and np.array_equal(np.rint(values), values))


_MAX_SHEAR_DEGREES = 0.1


def _shear_degrees(geometry: Geometry) -> float:
    """Largest deviation of two axes from a right angle; 0 where no affine is stated."""
    if geometry.affine is None:
        return 0.0
    axes = geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    cosines = np.abs(axes.T @ axes - np.eye(3)).max()
    return float(np.degrees(np.arcsin(np.clip(cosines, 0, 1))))


def _channels_of(volume: SourceVolume, source: VolumeSource, orientation: np.ndarray) -> np.ndarray:
    """(C, Z, Y, X) with canonical axes."""
    values = volume.values if volume.values.ndim == 4 else volume.values[..., None]
    return turn(as_storable(values), orientation)


def _read_channel(
    source: VolumeSource, grid: Grid, *, orientation: str | None, ignore_headers: bool, target_name: str
) -> tuple[np.ndarray, str]:
    """A further channel in a grid that messages call `target_name`, and a note if it was resampled."""
    volume = read_source(source)
    own, first = volume.geometry, grid.geometry
    if ignore_headers or (own.affine is None and first.affine is None):
        if own.shape != first.shape:
            raise DataError(
                f"{source.path}: is {format_shape(own.shape)}, {grid.source.path} is {format_shape(first.shape)}; "
                "channels without headers must have the same size"
            )
        return _channels_of(volume, source, grid.to_canonical), ""
    if own.affine is None or first.affine is None:
        lacking = source.path if own.affine is None else grid.source.path
        raise DataError(f"{lacking}: {NO_ORIENTATION}, another channel's does; {_BY_VOXEL}")
    to_canonical = find_orientation(own, axes_where_unknown=orientation)
    values = _channels_of(volume, source, to_canonical)
    affine, target = reoriented_affine(own, to_canonical), reoriented_affine(first, grid.to_canonical)
    if is_same_grid(values.shape[:0:-1], affine, grid.shape[::-1], target):
        return values, ""
    difference = describe_grid_difference(
        values.shape[:0:-1], affine, grid.shape[::-1], target, other_name=grid.source.name
    )
    outside = f"{target_name} by its header; {_BY_VOXEL}"
    resampled = np.stack(
        [resample_to_grid(channel, affine, target, grid.shape, path=source.path, outside=outside) for channel in values]
    )
    return as_storable(resampled), f"{source.name} resampled to the grid of {grid.source.name}: {difference}"


def _in_grid(labels: np.ndarray, geometry: Geometry, grid: Grid, *, ignore_headers: bool) -> np.ndarray:
    """Labels (X, Y, Z) of a file as (Z, Y, X) in the canonical grid of their volume."""
    first = grid.geometry
    if ignore_headers or (geometry.affine is None and first.affine is None):
        if geometry.shape != first.shape:
            raise DataError(
                f"{geometry.source}: is {format_shape(geometry.shape)}, its volume {grid.source.name} is "
                f"{format_shape(first.shape)}"
            )
        return turn(labels, grid.to_canonical)
    if geometry.affine is None or first.affine is None:
        lacking = geometry.source if geometry.affine is None else grid.source.path
        raise DataError(f"{lacking}: {NO_ORIENTATION}, the other file's does; {_BY_VOXEL}")
    orientation = find_orientation(geometry)
    turned = turn(labels, orientation)
    affine, target = reoriented_affine(geometry, orientation), reoriented_affine(first, grid.to_canonical)
    if not is_same_grid(turned.shape[::-1], affine, grid.shape[::-1], target):
        name = grid.source.name
        difference = describe_grid_difference(turned.shape[::-1], affine, grid.shape[::-1], target, other_name=name)
        raise DataError(
            f"{geometry.source}: is on another grid than {name}: {difference}; resample the mask to its volume, or, "
            f"{_BY_VOXEL}"
        )
    return turned


def _whole_numbers(values: np.ndarray, path: Path) -> np.ndarray:
    if values.dtype.kind in "biu":
        return values.astype(np.uint8) if values.dtype.kind == "b" else values
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise DataError(f"{path}: {count:,} voxels of the mask are NaN or infinite, expected whole numbers")
    largest = max(abs(float(values.min())), abs(float(values.max())))
    if largest > 2**53:
        raise DataError(f"{path}: has values up to {largest:.4g}, which are no labels")
    labels = np.empty(values.shape, np.int32 if largest < 2**31 - 1 else np.int64, order="F")
    for part, whole in zip(_slabs(values), _slabs(labels), strict=True):
        rounded = np.rint(part)
        # Single precision and header slopes leave 0.9999999.
        wrong = np.abs(part - rounded) > 1e-3
        if wrong.any():
            raise DataError(
                f"{path}: has values such as {float(part[wrong].flat[0]):.4g}, expected whole numbers, one for each "
                "class; threshold a soft mask first"
            )
        whole[...] = rounded
    return labels


def _describe_channels(sources: Sequence[VolumeSource], first: SourceVolume, found: int, expected: int) -> str:
    path = sources[0].path
    if len(sources) == 1 and first.geometry.unit == "px":
        return f"{path}: has {pluralize(found, 'channel')}, expected {expected}, as all pictures of a data set have"
    if len(sources) == 1 and first.values.ndim == 4:
        shape = " x ".join(map(str, first.values.shape))
        wanted = "three" if expected == 1 else f"{expected} channels"
        return (
            f"{path}: has four axes ({shape}), expected {wanted}; if the last axis holds channels, name all {found} "
            "(--channels T1,T2,...); if it holds time points, save each as a file of its own"
        )
    return f"{path}: the case has {found} channels, expected {expected}"
