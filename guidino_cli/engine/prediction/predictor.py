"""`Predictor`: one run or an ensemble, from decoded images to masks in the grid of each source image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.config import DataSettings, RunConfig
from guidino_cli.data.preprocess import network_size, resize_image, restore_to_source, to_tensor
from guidino_cli.data.readers import read
from guidino_cli.data.regions import RegionReader
from guidino_cli.device_transfer import to_device
from guidino_cli.engine.feature_cache.cache import FeatureCache
from guidino_cli.engine.prediction.accumulation import CasePart, OnPart
from guidino_cli.engine.prediction.inference import segment_batch, segment_image
from guidino_cli.engine.prediction.network import Network
from guidino_cli.engine.prediction.sliding import Window, count_windows, segment_bands
from guidino_cli.models.composed import Model
from guidino_cli.types import Geometry

_BAND_ROWS = 128
"""Rows of a band of a large image."""


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image: (H, W, 3) uint8, and its geometry."""

    pixels: np.ndarray
    geometry: Geometry


@dataclass(frozen=True)
class Segmentation:
    """The result for one image, in the grid of its file.

    Attributes:
        labels: (H, W) uint8 class indices.
        probabilities: (K, H, W) float32 in main memory, or None if they were not kept.
        guide: (G, H, W) float32 in [0, 1] in main memory, or None without a guide or if it was not kept.
        pixels: (H, W, 3) uint8, the decoded image.
    """

    labels: np.ndarray
    probabilities: Tensor | None
    guide: Tensor | None
    pixels: np.ndarray


@dataclass(frozen=True)
class Member:
    """One run of an ensemble.

    Attributes:
        model: In evaluation mode, or the same network compiled.
        settings: Those of the grid that it was trained in.
        window: Its sliding window.
        engine: What runs a compiled network, and in which precision; "" for torch.
    """

    model: Network
    settings: DataSettings
    window: Window
    engine: str = ""

    def network_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width of an image in the network's grid."""
        return network_size(size_hw, resize=self.settings.resize, image_size=self.settings.image_size)

    def count_windows(self, size_hw: tuple[int, int]) -> int:
        """Number of windows that cover an image of this size in its own grid."""
        return count_windows(self.network_size(size_hw), self.window)

    def preprocess(self, image: DecodedImage) -> Tensor:
        """(3, h, w) in [0, 1] in the network's grid, on the model's device."""
        pixels = resize_image(image.pixels, self.network_size(image.geometry.size_hw))
        return to_device(to_tensor(pixels), self.model.mean.device)


class Predictor:
    """Averages the probabilities of one or more runs.

    Args:
        members: Runs with the same classes; the guide is that of the first one that has any.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)

    @classmethod
    def from_config(
        cls, model: Model, config: RunConfig, *, mirror: bool | None = None, precision: str = "no"
    ) -> "Predictor":
        """The predictor of a single run, in a resolved precision; `mirror` replaces `predict.mirror`."""
        return cls([Member(model, config.data, Window.from_config(config, mirror=mirror, precision=precision))])

    def is_one_window(self, size_hw: tuple[int, int]) -> bool:
        """Whether an image is a single window for every run, so that it may share a batch with others."""
        return all(member.count_windows(size_hw) == 1 for member in self.members)

    def segment_file(self, path: Path, *, keep_probabilities: bool = True) -> Segmentation:
        """`segment` for one image file.

        Raises:
            DataError: The file cannot be read.
        """
        return self.segment([DecodedImage(*read(path))], keep_probabilities=keep_probabilities)[0]

    @torch.inference_mode()
    def segment(
        self,
        images: Sequence[DecodedImage],
        *,
        cache: FeatureCache | None = None,
        keep_probabilities: bool = True,
        keep_guide: bool = True,
        on_parts: Sequence[OnPart] = (),
    ) -> list[Segmentation]:
        """Segment images; if there are several and each of them is one window, they share a forward pass.

        Args:
            images: In their own grids.
            cache: Backbone features of images that will be segmented again, by `Geometry.source`. For a single run;
                a shared forward pass does not use it.
            keep_probabilities: Whether they are returned: of a GPU, 4 bytes per pixel and class are copied for that.
            keep_guide: Whether the guide is returned, likewise.
            on_parts: One for each image, or none; each is called with the whole image as a part.
        """
        is_batch = len(images) > 1 and all(self.is_one_window(image.geometry.size_hw) for image in images)
        sums: list[Tensor] = []
        guides: list[Tensor | None] = [None] * len(images)
        masks: list[list[np.ndarray]] = [[] for _ in images]
        for number, member in enumerate(self.members):
            for i, (probabilities, guide) in enumerate(_results(member, images, is_batch=is_batch, cache=cache)):
                geometry = images[i].geometry
                restored = restore_to_source(probabilities, geometry)
                if on_parts and len(self.members) > 1:
                    masks[i].append(_argmax(restored))
                if number == 0:
                    sums.append(restored)
                else:
                    sums[i] += restored
                if (keep_guide or on_parts) and guide is not None and guides[i] is None:
                    guides[i] = restore_to_source(guide, geometry)
        means = [total / len(self.members) if len(self.members) > 1 else total for total in sums]
        labels = [_argmax(mean) for mean in means]
        for i, on_part in enumerate(on_parts):
            on_part(CasePart(0, labels[i], means[i], guides[i], masks[i]))
        return [
            Segmentation(
                own,
                mean.cpu() if keep_probabilities else None,
                guide.cpu() if keep_guide and guide is not None else None,
                image.pixels,
            )
            for own, mean, guide, image in zip(labels, means, guides, images, strict=True)
        ]

    @torch.inference_mode()
    def label_rows(self, regions: RegionReader, *, on_part: OnPart | None = None) -> Iterator[np.ndarray]:
        """Class indices (rows, W) uint8 of a large image from top to bottom, holding only a band of it at a time.

        Args:
            regions: Regions of the image.
            on_part: Called with each band; its part has no guide.
        """
        bands = [_rebanded(_bands(member, regions)) for member in self.members]
        top = 0
        for parts in zip(*bands, strict=True):
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            labels = _argmax(total)
            if on_part is not None:
                members = [_argmax(part) for part in parts] if len(parts) > 1 else []
                on_part(CasePart(top, labels, total / len(parts), members=members))
            top += len(labels)
            yield labels


def _results(
    member: Member, images: Sequence[DecodedImage], *, is_batch: bool, cache: FeatureCache | None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Probabilities and guide of each image in the network's grid."""
    if is_batch:
        yield from segment_batch(member.model, [member.preprocess(image) for image in images], member.window)
        return
    for image in images:
        name = image.geometry.source
        yield segment_image(member.model, member.preprocess(image), member.window, cache=cache, name=name)


def _argmax(scores: Tensor) -> np.ndarray:
    """(K, H, W) -> (H, W) uint8."""
    return scores.argmax(dim=0).to(torch.uint8).cpu().numpy()


def _bands(member: Member, regions: RegionReader) -> Iterator[Tensor]:
    """Probabilities (K, rows, W) of a large image in its own grid, from top to bottom."""
    size_hw = regions.geometry.size_hw
    if member.network_size(size_hw) == size_hw:

        def read_window(corner: tuple[int, int]) -> Tensor:
            return to_tensor(regions.read_window(corner, member.window.size))

        for band in segment_bands(member.model, size_hw, read_window, member.window):
            yield band.probabilities
        return
    # The network's grid is small; only the result in the source's grid is large.
    image = DecodedImage(regions.read_all(), regions.geometry)
    probabilities, _ = segment_image(member.model, member.preprocess(image), member.window)
    yield from restored_bands(probabilities, size_hw)


def restored_bands(maps: Tensor, size_hw: tuple[int, int]) -> Iterator[Tensor]:
    """`restore_to_source`, `_BAND_ROWS` rows at a time: (K, rows, W) from top to bottom."""
    height, width = size_hw
    source = maps.shape[1]
    if height < source:
        # Antialiasing averages several source rows into each; there are few.
        yield from restore_to_source(maps, Geometry.of_pixels("", size_hw)).split(_BAND_ROWS, dim=1)
        return
    wide = F.interpolate(maps[None], size=(source, width), mode="bilinear", align_corners=False)[0]
    for top in range(0, height, _BAND_ROWS):
        rows = torch.arange(top, min(top + _BAND_ROWS, height), device=maps.device, dtype=torch.float32)
        position = ((rows + 0.5) * (source / height) - 0.5).clamp(min=0)
        above = position.floor().long().clamp(max=source - 1)
        below = (above + 1).clamp(max=source - 1)
        weight = (position - above)[None, :, None]
        yield wide[:, above] * (1 - weight) + wide[:, below] * weight


def _rebanded(bands: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same rows in bands of `_BAND_ROWS`, so that those of several runs can be added."""
    waiting: list[Tensor] = []
    count = 0
    for band in bands:
        waiting.append(band)
        count += band.shape[1]
        while count >= _BAND_ROWS:
            joined = torch.cat(waiting, dim=1)
            yield joined[:, :_BAND_ROWS]
            waiting, count = [joined[:, _BAND_ROWS:].clone()], count - _BAND_ROWS
    if count:
        yield torch.cat(waiting, dim=1)
