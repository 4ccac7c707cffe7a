"""Read the two images of a registration, and their labels, on one grid."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from guidino_cli.data.volumes.alignment import describe_grid_difference, format_shape, is_same_grid
from guidino_cli.data.volumes.canonical import reoriented_affine, turn
from guidino_cli.data.volumes.grid import Grid
from guidino_cli.data.volumes.intensities import Intensity, Limits, measure_channel
from guidino_cli.data.volumes.placing import resample_to_grid
from guidino_cli.data.volumes.reading import as_storable, read_source, read_volume_labels
from guidino_cli.errors import DataError
from guidino_cli.files import is_dead_link
from guidino_cli.types import VolumeSource, width_by_height

_RESAMPLE = "--onto fixed resamples the moving one to the fixed one's grid"

_ARRAYS = {".npy", ".npz"}


@dataclass(frozen=True)
class ReadingRules:
    """How images are read and brought together.

    Attributes:
        onto_fixed: Resample a moving volume on another grid, instead of refusing it.
        ignore_headers: Take two volumes of one size voxel by voxel, wherever their headers place them.
        orientation: Directions of the axes of volumes whose header states none, such as "RAS".
        window: Low and high ends of the grey values; None for the 0.5 and 99.5 percentiles of each image.
    """

    onto_fixed: bool = False
    ignore_headers: bool = False
    orientation: str | None = None
    window: Limits | None = None


@dataclass(frozen=True, eq=False)
class RegistrationImage:
    """One of the two images, on the grid of the fixed one.

    Attributes:
        path: Of the file, or the folder of a DICOM series.
        values: (C, Z, Y, X) in the numbers of the file; a 2-D image has one slice.
        grid: Of the fixed image.
        labels: (Z, Y, X), or None.
    """

    path: Path
    values: np.ndarray
    grid: Grid
    labels: np.ndarray | None = None

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of Z, Y, X that are registered: those with more than one pixel."""
        return tuple(axis for axis, size in enumerate(self.grid.shape) if size > 1)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a pixel along the axes that are registered."""
        return tuple(self.grid.spacing_mm[axis] for axis in self.axes)

    def squeeze(self, values: np.ndarray) -> np.ndarray:
        """(..., Z, Y, X) without the axes of one pixel."""
        flat = tuple(axis - 3 for axis in range(3) if axis not in self.axes)
        return np.squeeze(values, axis=flat) if flat else values

    def expand(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `squeeze`."""
        return values.reshape(*values.shape[: values.ndim - len(self.axes)], *self.grid.shape)

    def expand_field(self, field: np.ndarray) -> np.ndarray:
        """A field (n, *S) as (3, Z, Y, X), without displacement along axes of one pixel."""
        whole = np.zeros((3, *self.grid.shape), dtype=np.float32)
        whole[list(self.axes)] = self.expand(field)
        return whole


@dataclass(frozen=True, eq=False)
class ImagePair:
    """Two images on one grid.

    Attributes:
        fixed: Stays as it is.
        moving: Is to be brought to it.
        notes: What was done to them that a user should know.
    """

    fixed: RegistrationImage
    moving: RegistrationImage
    notes: tuple[str, ...] = ()


def read_image_pair(
    fixed: Path, moving: Path, fixed_mask: Path | None, moving_mask: Path | None, rules: ReadingRules
) -> ImagePair:
    """Read two images and their labels, both or neither of which are given.

    Raises:
        DataError: A file is missing or damaged, the images are of two and three dimensions, on different grids or
            constant, or labels are on another grid than their image.
    """
    first, second = (_read(path, rules) for path in (fixed, moving))
    if first.grid.is_picture != second.grid.is_picture:
        kinds = ["a 2-D image" if item.grid.is_picture else "a volume" for item in (first, second)]
        raise DataError(f"{moving}: is {kinds[1]}, but {fixed} is {kinds[0]}; register images of one kind")
    if fixed_mask is not None and moving_mask is not None:
        first = replace(first, labels=_read_labels(fixed_mask, first.grid, rules))
        second = replace(second, labels=_read_labels(moving_mask, second.grid, rules))
    second, notes = _bring_to_grid(second, first, rules)
    _require_content(second)
    return ImagePair(first, second, notes)


def _read(path: Path, rules: ReadingRules) -> RegistrationImage:
    if not path.exists():
        raise DataError(f"{path}: {'leads to a file that does not exist' if is_dead_link(path) else 'no such file'}")
    if path.suffix.lower() in _ARRAYS:
        raise DataError(f"{path}: an array has no voxel size; save it as NIfTI, or as PNG or TIFF if it is a 2-D image")
    source = VolumeSource(path)
    volume = read_source(source)
    grid = Grid.of(volume, source, axes_where_unknown=rules.orientation)
    values = volume.values if volume.values.ndim == 4 else volume.values[..., None]
    # The colours of a 2-D image are seen together; which of several volumes is meant, nothing tells.
    count, possible = values.shape[3], (1, 3) if grid.is_picture else (1,)
    if count not in possible:
        found, expected = ("channels", "1 or 3") if grid.is_picture else ("channels or time points", "one")
        raise DataError(f"{path}: has {count} {found}, expected {expected}; save what is to be registered by itself")
    image = RegistrationImage(path, turn(as_storable(values), grid.to_canonical), grid)
    _require_content(image)
    return image


def _require_content(image: RegistrationImage) -> None:
    finite = image.values[np.isfinite(image.values)]
    if finite.size == 0 or finite.min() == finite.max():
        found = f"{finite[0]:g}" if finite.size else "NaN or infinite"
        raise DataError(f"{image.path}: all pixels are {found}, which leaves nothing to register")


def _read_labels(path: Path, grid: Grid, rules: ReadingRules) -> np.ndarray:
    if not path.exists():
        raise DataError(f"{path}: no such file")
    return read_volume_labels(VolumeSource(path), grid, ignore_headers=rules.ignore_headers)


def _bring_to_grid(
    moving: RegistrationImage, fixed: RegistrationImage, rules: ReadingRules
) -> tuple[RegistrationImage, tuple[str, ...]]:
    """The moving image on the grid of the fixed one, and what was done."""
    own, target = moving.grid.geometry.affine, fixed.grid.geometry.affine
    if fixed.grid.is_picture or rules.ignore_headers or own is None or target is None:
        if moving.grid.shape != fixed.grid.shape:
            raise DataError(_describe_sizes(moving, fixed))
        return replace(moving, grid=fixed.grid), ()
    own, target = (reoriented_affine(item.grid.geometry, item.grid.to_canonical) for item in (moving, fixed))
    shapes = moving.grid.shape[::-1], fixed.grid.shape[::-1]
    if is_same_grid(shapes[0], own, shapes[1], target):
        return replace(moving, grid=fixed.grid), ()
    difference = describe_grid_difference(shapes[0], own, shapes[1], target, other_name=str(fixed.path))
    if not rules.onto_fixed:
        raise DataError(
            f"{moving.path}: is on another grid: {difference}; {_RESAMPLE}"
            + (", --ignore-headers goes by the order of voxels" if shapes[0] == shapes[1] else "")
        )
    outside = f"{fixed.path} by its header; correct the header"
    if shapes[0] == shapes[1]:
        outside += ", or take the files voxel by voxel by --ignore-headers"
    place = (own, target, fixed.grid.shape)
    values = np.stack(
        [resample_to_grid(channel, *place, path=moving.path, outside=outside) for channel in moving.values]
    )
    labels = moving.labels
    if labels is not None:
        labels = resample_to_grid(labels, *place, path=moving.path, outside=outside, nearest=True)
    note = f"{moving.path.name} resampled to the grid of {fixed.path.name}: {difference}"
    return RegistrationImage(moving.path, values, fixed.grid, labels), (note,)


def _describe_sizes(moving: RegistrationImage, fixed: RegistrationImage) -> str:
    if fixed.grid.is_picture:
        own, other = (width_by_height(item.grid.shape[1:]) for item in (moving, fixed))
        return (
            f"{moving.path}: is {own} px (width x height), {fixed.path} is {other} px; bring them to one size, since "
            "2-D images do not say where they lie"
        )
    own, other = (format_shape(item.grid.shape[::-1]) for item in (moving, fixed))
    return f"{moving.path}: is {own}, {fixed.path} is {other}; without headers to go by, both must have one size"


def fill_missing(image: RegistrationImage) -> np.ndarray:
    """Values (C, *S) without axes of one pixel, in which what is not finite is the smallest value."""
    values = image.squeeze(image.values)
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values
    low = float(values[np.isfinite(values)].min())
    return np.nan_to_num(values, nan=low, posinf=low, neginf=low)


def choose_intensity(image: RegistrationImage, window: Limits | None) -> Intensity:
    """The mapping of an image to [0, 1].

    By the window, or by the 0.5 and 99.5 percentiles of all channels together, so that colours stay what they are; by
    the smallest and largest value where these two are equal.
    """
    statistics = measure_channel(fill_missing(image))
    limits = window or (statistics.percentile_00_5, statistics.percentile_99_5)
    if limits[0] == limits[1]:
        limits = (statistics.minimum, statistics.maximum)
    return Intensity("window", (limits,))


def map_to_unit(values: np.ndarray, intensity: Intensity) -> np.ndarray:
    """Values of any shape in [0, 1], float32."""
    # A window takes nothing from the statistics.
    return intensity.normalize(values, measure_channel(values[:0]))[0]


def to_unit_range(image: RegistrationImage, window: Limits | None) -> np.ndarray:
    """Intensities in [0, 1], (C, *S) float32 without axes of one pixel; see `choose_intensity`."""
    return map_to_unit(fill_missing(image), choose_intensity(image, window))
