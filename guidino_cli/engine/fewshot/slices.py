"""Slices of volumes as a frozen backbone sees them: which of them are used, and with which labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from guidino_cli.config import DataSettings
from guidino_cli.data.cases import IGNORED
from guidino_cli.data.preprocess import network_size, resize_channels
from guidino_cli.data.volumes.network_views import read_slab, read_voxels, to_network_order
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.data.volumes.stored import StoredArray, open_array
from guidino_cli.engine.fewshot.images import LabelledImage, SeenImage
from guidino_cli.errors import DataError
from guidino_cli.models.composed import Model
from guidino_cli.types import Case, ChannelStatistics


@dataclass(frozen=True, eq=False)
class VolumeLabels:
    """The labels of a volume, slice by slice.

    Attributes:
        name: Name of the volume.
        counts: (D, K) pixels of each class in each slice; those that do not count are in none.
    """

    name: str
    counts: np.ndarray

    @classmethod
    def of(cls, case: Case, preprocessing: VolumePreprocessing, *, num_classes: int) -> VolumeLabels:
        """Count the pixels of a case; slices are cut across the axis of the preprocessing.

        Raises:
            DataError: A class of `num_classes` or more.
        """
        slices = (read_labels(case, place, preprocessing) for place in range(_depth(case, preprocessing)))
        counts = [np.bincount(labels[labels != IGNORED], minlength=num_classes) for labels in slices]
        if (most := max(len(row) for row in counts)) > num_classes:
            raise DataError(
                f"{case.mask}: has class {most - 1}, expected 0..{num_classes - 1}; run `guidino prepare` again"
            )
        return cls(case.id, np.stack(counts))

    @property
    def labelled(self) -> np.ndarray:
        """Places of the slices of which a pixel counts, ascending."""
        return np.flatnonzero(self.counts.sum(axis=1))

    @property
    def area(self) -> np.ndarray:
        """(K - 1,) share of each foreground class among the pixels that count."""
        totals = self.counts.sum(axis=0)
        return np.asarray(totals[1:] / max(1, totals.sum()))

    def choose(self, count: int) -> list[int]:
        """Up to `count` of the labelled slices, ascending.

        If there are more, half of them show the classes in equal numbers, and the rest are anywhere; both evenly
        spaced.
        """
        labelled = self.labelled
        if len(labelled) <= count:
            return [int(place) for place in labelled]
        classes = self.counts.shape[1] - 1
        chosen: set[int] = set()
        for region in range(1, classes + 1):
            chosen.update(spread(np.flatnonzero(self.counts[:, region]), max(1, count // (2 * classes))))
        others = [place for place in labelled.tolist() if place not in chosen]
        return sorted(chosen.union(spread(others, count - len(chosen))))


def spread(places: Sequence[int] | np.ndarray, count: int) -> list[int]:
    """Up to `count` of the places, evenly spaced: the middles of as many equal parts."""
    found = [int(place) for place in places]
    if len(found) <= count:
        return found
    return [found[(2 * part + 1) * len(found) // (2 * count)] for part in range(count)]


@torch.no_grad()
def see_slice(
    model: Model,
    values: StoredArray,
    statistics: Sequence[ChannelStatistics],
    place: int,
    preprocessing: VolumePreprocessing,
    data: DataSettings,
) -> SeenImage:
    """Run the backbone of a model on a slice of a stored volume (C, Z, Y, X), as prediction does."""
    pixels = read_slab(values, statistics, place, preprocessing)
    size_hw = network_size((pixels.shape[1], pixels.shape[2]), resize=data.resize, image_size=data.image_size)
    resized = resize_channels(pixels, size_hw)
    dense = model.dense_maps(torch.from_numpy(resized).to(model.mean.device)[None])[-1][0]
    return SeenImage(resized, dense.float().cpu())


def see_labelled_slice(
    model: Model, case: Case, place: int, preprocessing: VolumePreprocessing, data: DataSettings
) -> LabelledImage:
    """A slice of a labelled case of a prepared folder."""
    if case.volume is None:
        raise ValueError(f"case {case.id} is no volume")
    seen = see_slice(model, open_array(case.volume.image), case.volume.statistics, place, preprocessing, data)
    return LabelledImage(seen, read_labels(case, place, preprocessing), case.id)


def read_labels(case: Case, place: int, preprocessing: VolumePreprocessing) -> np.ndarray:
    """Labels (H, W) of a slice; `IGNORED` for pixels that do not count."""
    if case.volume is None or case.volume.labels is None:
        raise ValueError(f"case {case.id} has no stored labels")
    _, height, width = to_network_order(case.volume.shape, preprocessing)
    labels = read_voxels(open_array(case.volume.labels), (place, 0, 0), (1, height, width), preprocessing)[0]
    return labels if case.ignore_label in (None, IGNORED) else np.where(labels == case.ignore_label, IGNORED, labels)


def _depth(case: Case, preprocessing: VolumePreprocessing) -> int:
    if case.volume is None:
        raise ValueError(f"case {case.id} is no volume")
    return to_network_order(case.volume.shape, preprocessing)[0]
