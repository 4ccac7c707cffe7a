"""The pictures of a labelled item: the image itself, or the slices of a volume, resized for a network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from guidino_cli.data.images import is_image, read_image
from guidino_cli.data.labelled.archives import ImageArray, is_volume_shape
from guidino_cli.data.labelled.items import LabelledItem
from guidino_cli.data.preprocess import resize_channels, resize_image
from guidino_cli.data.volumes.intensities import Intensity, measure_channel
from guidino_cli.data.volumes.preprocessing import replace_nonfinite
from guidino_cli.data.volumes.reading import is_volume_file, read_volume
from guidino_cli.data.volumes.stored import StoredArray, open_array
from guidino_cli.errors import DataError
from guidino_cli.types import ChannelStatistics, VolumeSource

_WHITE = 0.9
"""Share of white below which a pixel is tissue, as slides of cells are scanned against light."""


@dataclass(frozen=True)
class SliceOptions:
    """Options for cutting a volume into slices.

    Attributes:
        every: Step from one slice to the next, the first and last half step left out alike.
        window: Level and width in the numbers of the file; None takes the 0.5 and 99.5 percentiles of the volume.
        orientation: Directions of the axes of volumes whose header states none.
    """

    every: int = 1
    window: tuple[float, float] | None = None
    orientation: str | None = None


class PictureReader:
    """Reads the pictures of items one after the other; quickest in the order of their set.

    Args:
        slices: How volumes become pictures.
    """

    def __init__(self, slices: SliceOptions) -> None:
        self.slices = slices
        self._array: ImageArray | None = None

    def read(self, item: LabelledItem) -> Iterator[np.ndarray]:
        """Pictures of an item: (H, W, 3) uint8 of an image, (3, H, W) float32 in [0, 1] of each slice, feet first.

        Raises:
            DataError: The file is missing, damaged, or no image or volume.
        """
        if item.array:
            yield from self._read_from_array(item)
        elif item.volume is not None:
            values, statistics = open_array(item.volume.image), item.volume.statistics
            if item.volume.is_picture:
                yield _grey_slice(np.asarray(values[:, 0]), statistics, self._intensity())
            else:
                yield from self._cut(values, statistics)
        elif is_volume_file(item.path):
            volume = read_volume([VolumeSource(item.path)], orientation=self.slices.orientation).values
            volume = replace_nonfinite(volume)
            yield from self._cut(volume, [measure_channel(channel) for channel in volume])
        elif is_image(item.path):
            yield read_image(item.path)[0]
        else:
            raise DataError(f"{item.path}: neither an image nor a volume by its name")

    def _read_from_array(self, item: LabelledItem) -> Iterator[np.ndarray]:
        if self._array is None or (self._array.path, self._array.name) != (item.path, item.array):
            self.close()
            self._array = ImageArray(item.path, item.array)
        pixels = self._array.read(item.index)
        if not is_volume_shape(self._array.shape):
            yield pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
            return
        for index in chosen_slices(len(pixels), self.slices.every):
            # Eight bits are taken as they are: whoever made them has chosen a window.
            part = pixels[index].astype(np.float32) / 255
            yield np.moveaxis(part, -1, 0) if part.ndim == 3 else np.repeat(part[None], 3, axis=0)

    def _cut(self, values: StoredArray, statistics: Sequence[ChannelStatistics]) -> Iterator[np.ndarray]:
        for index in chosen_slices(values.shape[1], self.slices.every):
            yield _grey_slice(np.asarray(values[:, index]), statistics, self._intensity())

    def _intensity(self) -> Intensity:
        if self.slices.window is None:
            return Intensity("percentile")
        level, width = self.slices.window
        return Intensity("window", ((level - width / 2, level + width / 2),))

    def close(self) -> None:
        """Close the archive that is open, if any."""
        if self._array is not None:
            self._array.close()
        self._array = None


def chosen_slices(count: int, every: int) -> range:
    """Indices of the slices that are used: each `every`-th, in the middle of its step."""
    return range(min(every // 2, (count - 1) // 2), count, every)


def slice_in_volume(place: int, count: int, every: int) -> int | None:
    """Number in its volume, from 0, of a slice of `chosen_slices`; None where one slice of several was chosen.

    Args:
        place: Position among the chosen slices.
        count: Of the chosen slices.
        every: As `chosen_slices` was given.
    """
    # Only of a volume of fewer slices than a step is the first one not in the middle of its step.
    return None if count == 1 and every > 1 else every // 2 + place * every


def fit_picture(picture: np.ndarray, size_hw: tuple[int, int] | None) -> np.ndarray:
    """A picture of `PictureReader` as (3, h, w) float32 in [0, 1], squeezed to a size, or as large as it is."""
    if picture.dtype == np.uint8:
        resized = picture if size_hw is None else resize_image(picture, size_hw)
        return resized.transpose(2, 0, 1).astype(np.float32) / 255
    return picture if size_hw is None else resize_channels(picture, size_hw)


def picture_size(picture: np.ndarray) -> tuple[int, int]:
    """Height and width of a picture of `PictureReader`."""
    height, width = picture.shape[:2] if picture.dtype == np.uint8 else picture.shape[1:]
    return int(height), int(width)


def as_pixels(picture: np.ndarray) -> np.ndarray:
    """A picture of `PictureReader` as (H, W, 3) uint8, to be looked at."""
    if picture.dtype == np.uint8:
        return picture
    return (picture.transpose(1, 2, 0) * 255).round().clip(0, 255).astype(np.uint8)


def tissue_share(picture: np.ndarray) -> float:
    """Share of pixels darker than nine tenths of white: tissue on a slide in bright field."""
    values = fit_picture(picture, None)
    return float((values.mean(axis=0) < _WHITE).mean())


def _grey_slice(values: np.ndarray, statistics: Sequence[ChannelStatistics], intensity: Intensity) -> np.ndarray:
    """(C, H, W) in the numbers of a file to (3, H, W): one channel thrice, of two the second twice, else the first."""
    count = len(values)
    mapped = [intensity.normalize(values[place], statistics[place])[0] for place in range(min(count, 3))]
    last = len(mapped) - 1
    return np.stack([mapped[min(place, last)] for place in range(3)])
