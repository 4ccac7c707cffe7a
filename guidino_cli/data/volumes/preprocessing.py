"""From a volume as it was read to what a network sees: one way for `prepare`, `train` and `predict`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from guidino_cli.config import DataSettings
from guidino_cli.data.manifest import Manifest
from guidino_cli.data.volumes.grid import Volume
from guidino_cli.data.volumes.intensities import Intensity, measure_channel, resolve_intensities
from guidino_cli.data.volumes.reading import as_storable
from guidino_cli.data.volumes.resampling import (
    Size,
    Spacing,
    find_long_axis,
    resample_image,
    resampled_size,
    resampled_spacing,
)
from guidino_cli.types import ChannelStatistics

_AXES = {0: (0, 1, 2), 1: (1, 0, 2), 2: (2, 0, 1)}
"""Order of the axes Z, Y, X for a network, by the one that is cut into slices."""


@dataclass(frozen=True, eq=False)
class StoredGridVolume:
    """A volume on the grid of the prepared data.

    Attributes:
        values: (C, Z, Y, X), integers where they were not resampled and the source has whole numbers, else float32.
        spacing_mm: Size of a voxel along Z, Y, X.
        statistics: Statistics of all voxels of each channel.
        long_axis: The axis that is resampled by the nearest slice, on the way back too; None if there is none.
    """

    values: np.ndarray
    spacing_mm: Spacing
    statistics: tuple[ChannelStatistics, ...]
    long_axis: int | None


def to_stored_grid(volume: Volume, spacing_mm: Sequence[float | None]) -> StoredGridVolume:
    """Resample a volume to the spacing of the prepared data and measure its channels.

    Voxels that are not finite get the smallest finite value of their channel.

    Args:
        volume: With canonical axes, in its own grid.
        spacing_mm: Target along Z, Y, X; None keeps an axis as it is.
    """
    values = replace_nonfinite(volume.values)
    size: Size = volume.grid.shape
    new_size = resampled_size(size, volume.spacing_mm, spacing_mm)
    new_spacing = resampled_spacing(size, volume.spacing_mm, new_size)
    long_axis = find_long_axis(volume.spacing_mm, new_spacing)
    if new_size != size:
        values = np.stack([resample_image(channel, new_size, long_axis=long_axis) for channel in values])
    else:
        values = as_storable(values)
    return StoredGridVolume(values, new_spacing, tuple(measure_channel(channel) for channel in values), long_axis)


def count_nonfinite(values: np.ndarray) -> int:
    """Voxels that are NaN or infinite."""
    return int((~np.isfinite(values)).sum()) if values.dtype.kind == "f" else 0


def describe_nonfinite(values: np.ndarray) -> list[str]:
    """A note on the voxels that are NaN or infinite; [] without any."""
    count = count_nonfinite(values)
    return [f"{count:,} voxels are NaN or infinite: the smallest number takes their place"] if count else []


def replace_nonfinite(values: np.ndarray) -> np.ndarray:
    """Values (C, ...) in which NaN and infinite ones are the smallest finite value of their channel."""
    if not count_nonfinite(values):
        return values
    channels = []
    for channel in values:
        finite = np.isfinite(channel)
        lowest = channel[finite].min() if finite.any() else np.float32(0)
        channels.append(np.where(finite, channel, lowest))
    return np.stack(channels)


@dataclass(frozen=True)
class VolumePreprocessing:
    """Steps that turn the volumes of a data set into network inputs.

    Attributes:
        channels: Names of the channels.
        spacing_mm: Voxel size of the prepared data along Z, Y, X; None keeps each volume's own.
        statistics: Statistics of the training foreground of each channel.
        intensities: Mapping of each channel.
        slice_axis: 0, 1 or 2: the axis of Z, Y, X that is cut into slices. It becomes a network's first axis.
        is_picture: Whether they are pictures, stored with all their channels and bits.
        onto: Position of the channel whose grid the others are resampled to.
    """

    channels: tuple[str, ...]
    spacing_mm: tuple[float | None, ...]
    statistics: tuple[ChannelStatistics, ...]
    intensities: tuple[Intensity, ...]
    slice_axis: int = 0
    is_picture: bool = False
    onto: int = 0

    @classmethod
    def from_manifest(cls, manifest: Manifest, settings: DataSettings) -> "VolumePreprocessing":
        """Preprocessing of a prepared data set; `ConfigError` if the settings do not fit its channels."""
        spacings = [case.volume.spacing_mm for case in manifest.cases if case.volume is not None]
        axis = find_slice_axis(spacings) if settings.slice_axis == "auto" else "zyx".index(settings.slice_axis)
        parts = (manifest.channels, manifest.spacing_mm, manifest.statistics)
        return cls._resolve(*parts, settings, axis, is_picture=manifest.is_pictures, onto=manifest.onto)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], settings: DataSettings) -> "VolumePreprocessing":
        """Preprocessing that a run recorded in its run.json (`facts["volumes"]`, see `to_facts`)."""
        statistics = tuple(ChannelStatistics(**item) for item in facts["statistics"])
        parts = (tuple(facts["channels"]), tuple(facts["spacing_mm"]), statistics)
        rest = {"is_picture": facts.get("is_picture", False), "onto": facts.get("onto", 0)}
        return cls._resolve(*parts, settings, facts["slice_axis"], **rest)

    @classmethod
    def _resolve(
        cls,
        channels: tuple[str, ...],
        spacing_mm: tuple[float | None, ...],
        statistics: tuple[ChannelStatistics, ...],
        settings: DataSettings,
        slice_axis: int,
        *,
        is_picture: bool,
        onto: int,
    ) -> "VolumePreprocessing":
        intensities = resolve_intensities(
            settings.intensity,
            channels,
            statistics,
            window=settings.window,
            windows=settings.windows,
            suv=settings.suv,
        )
        return cls(channels, spacing_mm, statistics, intensities, slice_axis, is_picture, onto)

    def to_facts(self) -> dict[str, Any]:
        """For run.json; the kinds of intensity are in the run's configuration."""
        return {
            "channels": list(self.channels),
            "spacing_mm": list(self.spacing_mm),
            "statistics": [asdict(item) for item in self.statistics],
            "slice_axis": self.slice_axis,
            **({"is_picture": True} if self.is_picture else {}),
            **({"onto": self.onto} if self.onto else {}),
        }

    @property
    def axes(self) -> tuple[int, int, int]:
        """Order in which a network sees the axes Z, Y, X: the slices first."""
        return _AXES[self.slice_axis]

    @property
    def outputs(self) -> int:
        """Channels after the mapping of intensities."""
        return sum(item.outputs for item in self.intensities)

    @property
    def is_unit(self) -> bool:
        """Whether all channels are in [0, 1]."""
        return all(item.is_unit for item in self.intensities)

    def normalize(self, values: np.ndarray, statistics: Sequence[ChannelStatistics]) -> np.ndarray:
        """Map the intensities of a volume, or of a part of it.

        Args:
            values: (C, ...) in the numbers of the files.
            statistics: Statistics of all voxels of each channel of that volume.

        Returns:
            (outputs, ...) float32.
        """
        parts = zip(self.intensities, values, statistics, strict=True)
        return np.concatenate([item.normalize(channel, own) for item, channel, own in parts])


def find_slice_axis(spacings: Sequence[Spacing]) -> int:
    """The axis with the largest median spacing: planes across it have the finest detail. Z if all are alike."""
    median = np.median(np.array(spacings), axis=0)
    return int(np.argmax(median)) if len(spacings) and median.max() > 1.05 * median[0] else 0
