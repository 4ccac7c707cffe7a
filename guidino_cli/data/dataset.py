"""Training samples: decoded and resized once, cropped to the network's window, in the order of an epoch."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from guidino_cli.data.images import read_image, read_label_map
from guidino_cli.data.preprocess import Resize, network_size, resize_image, resize_labels, to_tensor
from guidino_cli.errors import DataError
from guidino_cli.types import Case, Sample, width_by_height


class SampleIndex(NamedTuple):
    """One case in one epoch.

    The epoch travels with the case: a data-loading worker that outlives an epoch has no other way to know it.
    """

    epoch: int
    case: int


def random_generator(*words: int) -> np.random.Generator:
    """A generator that depends on these numbers only, such as (seed, epoch, case), not on what was drawn before."""
    return np.random.default_rng([word & 0xFFFFFFFF for word in words])


class EpochSampler(Sampler[SampleIndex]):
    """Every case once, in an order that depends on the seed and the epoch only.

    Attributes:
        epoch: Whose order it is.
        skipped: How many cases at the beginning of the order are left out, because they were shown before a kill.
    """

    def __init__(self, length: int, *, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0
        self.skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[SampleIndex]:
        order = random_generator(self.seed, self.epoch).permutation(self.length).tolist()
        yield from (SampleIndex(self.epoch, case) for case in order[self.skipped :])

    def __len__(self) -> int:
        """Cases of a whole epoch."""
        return self.length


def infinite_sample_indices(length: int, *, seed: int, start: int = 0) -> Iterator[SampleIndex]:
    """Epoch after epoch, each in the order of `EpochSampler`, from showing `start` on, as if those before were shown.

    Args:
        length: How many cases there are, at least 1.
        seed: Of the orders.
        start: How many showings were before, over all epochs.
    """
    epoch, skipped = divmod(start, length)
    for number in count(epoch):
        order = random_generator(seed, number).permutation(length)
        yield from (SampleIndex(number, int(case)) for case in order[skipped:])
        skipped = 0


class SegmentationDataset(Dataset[Sample]):
    """Samples of (image_size, image_size), the same ones for the same seed and epoch whatever the worker.

    Args:
        cases: Labelled cases.
        num_classes: K; a larger value in a mask is an error.
        image_size: Side of a sample.
        resize: See `DataSettings.resize`.
        foreground_crops: Share of crops centred on a foreground pixel, where the image is larger than a sample.
        cache_gb: How much decoded data each copy of the data set keeps in memory; every worker has a copy.
        seed: Of the crops.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        *,
        num_classes: int,
        image_size: int,
        resize: Resize,
        foreground_crops: float,
        cache_gb: float,
        seed: int,
    ) -> None:
        self.cases = cases
        self.num_classes = num_classes
        self.image_size = image_size
        self.resize = resize
        self.foreground_crops = foreground_crops
        self.seed = seed
        self._free_bytes = cache_gb * 1e9
        self._cache: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, turn: SampleIndex) -> Sample:
        """The sample of a case in an epoch; `DataError` names the file if it cannot be used."""
        epoch, index = turn
        pixels, labels = self._decoded(index)
        generator = random_generator(self.seed, epoch, index)
        top, left = self._corner(labels, generator)
        side = self.image_size
        pixels = _pad(pixels[top : top + side, left : left + side], side)
        labels = _pad(labels[top : top + side, left : left + side], side)
        return Sample(to_tensor(pixels), torch.from_numpy(labels.astype(np.int64)), torch.tensor(index))

    def _decoded(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index in self._cache:
            return self._cache[index]
        case = self.cases[index]
        if case.mask is None:
            raise DataError(f"{case.image}: has no mask and cannot be trained on")
        pixels, geometry = read_image(case.image)
        labels = read_label_map(case.mask)
        _validate_pair(case, geometry.size_hw, labels, self.num_classes)
        size = network_size(geometry.size_hw, resize=self.resize, image_size=self.image_size)
        pair = resize_image(pixels, size), resize_labels(labels, size)
        if self._free_bytes >= pair[0].nbytes + pair[1].nbytes:
            self._free_bytes -= pair[0].nbytes + pair[1].nbytes
            self._cache[index] = pair
        return pair

    def _corner(self, labels: np.ndarray, generator: np.random.Generator) -> tuple[int, int]:
        """Top-left pixel of the crop; (0, 0) where the image is no larger than a sample."""
        room = [max(0, side - self.image_size) for side in labels.shape]
        if not any(room):
            return 0, 0
        foreground = np.flatnonzero(labels) if generator.random() < self.foreground_crops else np.empty(0)
        if foreground.size == 0:
            return int(generator.integers(room[0] + 1)), int(generator.integers(room[1] + 1))
        centre = np.unravel_index(int(generator.choice(foreground)), labels.shape)
        top, left = (int(np.clip(centre[axis] - self.image_size // 2, 0, room[axis])) for axis in (0, 1))
        return top, left


def _pad(array: np.ndarray, side: int) -> np.ndarray:
    missing = [(0, side - array.shape[axis]) for axis in (0, 1)]
    return np.pad(array, missing + [(0, 0)] * (array.ndim - 2)) if any(after for _, after in missing) else array


def _validate_pair(case: Case, size_hw: tuple[int, int], labels: np.ndarray, num_classes: int) -> None:
    if labels.shape != size_hw:
        found, wanted = width_by_height(labels.shape), width_by_height(size_hw)
        raise DataError(
            f"{case.mask}: is {found} px (width x height), its image {case.image} is {wanted}; run `guidino prepare` "
            "again"
        )
    if labels.max() >= num_classes:
        raise DataError(
            f"{case.mask}: has class {labels.max()}, expected 0..{num_classes - 1}; run `guidino prepare` again"
        )
