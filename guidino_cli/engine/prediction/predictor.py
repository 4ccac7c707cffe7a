"""One run, or several as one: decoded images in, results in the grid of each image out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from guidino_cli.config import DataSettings
from guidino_cli.data.preprocess import network_size, resize_image, restore_to_source, to_tensor
from guidino_cli.data.regions import RegionReader
from guidino_cli.engine.prediction.inference import Segmentation, segment_batch, segment_image
from guidino_cli.engine.prediction.sliding import Window, segment_bands, window_corners
from guidino_cli.models.composed import Model
from guidino_cli.types import Geometry

_ROWS = 128
"""Rows of a band of a large image."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image: (H, W, 3) uint8, and its geometry."""

    pixels: np.ndarray
    geometry: Geometry


@dataclass(frozen=True)
class Member:
    """A run: its model in evaluation mode, the grid it was trained in, and how images are covered."""

    model: Model
    settings: DataSettings
    window: Window

    def size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Of an image in the network's grid."""
        return network_size(size_hw, resize=self.settings.resize, image_size=self.settings.image_size)

    def windows(self, size_hw: tuple[int, int]) -> int:
        """How many windows cover an image of the source's size."""
        return len(window_corners(self.size(size_hw), self.window))

    def image(self, picture: DecodedImage) -> Tensor:
        """(3, h, w) in [0, 1] in the network's grid, on the model's device."""
        pixels = resize_image(picture.pixels, self.size(picture.geometry.size_hw))
        return to_tensor(pixels).to(self.model.mean.device)


class Predictor:
    """The mean of the probabilities of one or more runs.

    Args:
        members: Of runs with the same classes; the guide is that of the first one that has any.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)

    def is_one_window(self, size_hw: tuple[int, int]) -> bool:
        """Whether an image is a single window for every run, so that it may share a batch with others."""
        return all(member.windows(size_hw) == 1 for member in self.members)

    @torch.inference_mode()
    def segment(self, pictures: Sequence[DecodedImage]) -> list[Segmentation]:
        """Segment images; those of one window each go through the network together."""
        together = len(pictures) > 1 and all(self.is_one_window(picture.geometry.size_hw) for picture in pictures)
        sums: list[Tensor] = []
        guides: list[Tensor | None] = [None] * len(pictures)
        for number, member in enumerate(self.members):
            for i, (probabilities, guide) in enumerate(_results(member, pictures, together=together)):
                geometry = pictures[i].geometry
                restored = restore_to_source(probabilities, geometry).cpu()
                if number == 0:
                    sums.append(restored)
                else:
                    sums[i] += restored
                if guide is not None and guides[i] is None:
                    guides[i] = restore_to_source(guide, geometry).cpu()
        means = [total / len(self.members) if len(self.members) > 1 else total for total in sums]
        return [
            Segmentation(mean.argmax(dim=0).to(torch.uint8).numpy(), mean, guide, picture.pixels)
            for mean, guide, picture in zip(means, guides, pictures, strict=True)
        ]

    @torch.inference_mode()
    def label_rows(self, regions: RegionReader) -> Iterator[np.ndarray]:
        """Class indices (rows, W) uint8 of a large image from top to bottom; only a strip of it is held at a time."""
        parts = [_even(_bands(member, regions)) for member in self.members]
        for several in zip(*parts, strict=True):
            total = several[0]
            for other in several[1:]:
                total = total + other
            yield total.argmax(dim=0).to(torch.uint8).cpu().numpy()


def _results(
    member: Member, pictures: Sequence[DecodedImage], *, together: bool
) -> Iterator[tuple[Tensor, Tensor | None]]:
    if together:
        yield from segment_batch(member.model, [member.image(picture) for picture in pictures], member.window)
        return
    for picture in pictures:
        yield segment_image(member.model, member.image(picture), member.window)


def _bands(member: Member, regions: RegionReader) -> Iterator[Tensor]:
    """Probabilities (K, rows, W) of a large image in its own grid, from top to bottom."""
    size_hw = regions.geometry.size_hw
    if member.size(size_hw) == size_hw:
        crop = _crop_of(regions, member.window.size)
        for band in segment_bands(member.model, size_hw, crop, member.window):
            yield band.probabilities
        return
    # The network's grid is small, only the way back to the source is long.
    picture = DecodedImage(regions.read_all(), regions.geometry)
    probabilities, _ = segment_image(member.model, member.image(picture), member.window)
    yield from restored_bands(probabilities, size_hw)


def _crop_of(regions: RegionReader, side: int) -> Callable[[tuple[int, int]], Tensor]:
    def crop(corner: tuple[int, int]) -> Tensor:
        return to_tensor(regions.read_window(corner, side))

    return crop


def restored_bands(maps: Tensor, size_hw: tuple[int, int]) -> Iterator[Tensor]:
    """`restore`, `_ROWS` rows at a time: (K, rows, W) from top to bottom."""
    height, width = size_hw
    source = maps.shape[1]
    if height < source:
        # Each row is a mean of several; there are few.
        yield from restore_to_source(maps, Geometry.of_pixels("", size_hw)).split(_ROWS, dim=1)
        return
    wide = torch.nn.functional.interpolate(maps[None], size=(source, width), mode="bilinear", align_corners=False)[0]
    for top in range(0, height, _ROWS):
        rows = torch.arange(top, min(top + _ROWS, height), device=maps.device, dtype=torch.float32)
        at = ((rows + 0.5) * (source / height) - 0.5).clamp(min=0)
        above = at.floor().long().clamp(max=source - 1)
        below = (above + 1).clamp(max=source - 1)
        share = (at - above)[None, :, None]
        yield wide[:, above] * (1 - share) + wide[:, below] * share


def _even(bands: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same rows in bands of `_ROWS`, so that those of several runs can be added up."""
    waiting: list[Tensor] = []
    count = 0
    for band in bands:
        waiting.append(band)
        count += band.shape[1]
        while count >= _ROWS:
            joined = torch.cat(waiting, dim=1)
            yield joined[:, :_ROWS]
            waiting, count = [joined[:, _ROWS:].clone()], count - _ROWS
    if count:
        yield torch.cat(waiting, dim=1)
