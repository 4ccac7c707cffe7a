"""Training data set of image-mask pairs, and samplers of its epochs."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from guidino_cli.data.cases import IGNORED, read_pair
from guidino_cli.data.preprocess import Resize, network_size, pad_to_square, resize_image, resize_labels, to_tensor
from guidino_cli.types import Case, Sample


class SampleIndex(NamedTuple):
    """Index of a training sample: a case in an epoch.

    The epoch is part of the index because a persistent data-loading worker has no other way to know it.
    """

    epoch: int
    case: int


def random_generator(*keys: int) -> np.random.Generator:
    """Random generator that depends only on the keys, such as (seed, epoch, case), not on earlier draws."""
    return np.random.default_rng([key & 0xFFFFFFFF for key in keys])


class EpochSampler(Sampler[SampleIndex]):
    """Every case once, in an order that depends only on the seed and the epoch.

    Attributes:
        epoch: Epoch whose order is used.
        skipped: Number of cases left out at the start, because they were trained on before an interruption.
    """

    def __init__(self, length: int, *, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0
        self.skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Use the order of this epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[SampleIndex]:
        order = random_generator(self.seed, self.epoch).permutation(self.length).tolist()
        yield from (SampleIndex(self.epoch, case) for case in order[self.skipped :])

    def __len__(self) -> int:
        """Number of cases in a whole epoch."""
        return self.length


def infinite_sample_indices(length: int, *, seed: int, start: int = 0) -> Iterator[SampleIndex]:
    """Yield sample indices without end, epoch after epoch, each in the order of `EpochSampler`.

    Args:
        length: Number of cases, at least 1.
        seed: Random seed of the orders.
        start: Number of samples to skip, counted over all epochs.
    """
    epoch, skipped = divmod(start, length)
    for number in count(epoch):
        order = random_generator(seed, number).permutation(length)
        yield from (SampleIndex(number, int(case)) for case in order[skipped:])
        skipped = 0


class SegmentationDataset(Dataset[Sample]):
    """Samples of (image_size, image_size) that depend only on the seed and the epoch, not on the worker.

    Pixels with the ignore label of a case are `IGNORED` in the mask.

    Args:
        cases: Labelled cases.
        num_classes: K; a mask value of K or more is an error.
        image_size: Side of a sample in pixels.
        resize: See `DataSettings.resize`.
        foreground_crops: Share of crops centred on a foreground pixel, where the image is larger than a sample.
        cache_gb: Gigabytes of decoded data kept in memory, by each worker for itself.
        seed: Random seed of the crops.
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

    def __getitem__(self, index: SampleIndex) -> Sample:
        """Load a sample; `DataError` names the file if it cannot be used."""
        epoch, case = index
        pixels, labels = self._load(case)
        generator = random_generator(self.seed, epoch, case)
        top, left = self._crop_corner(labels, generator)
        side = self.image_size
        pixels = pad_to_square(pixels[top : top + side, left : left + side], side)
        labels = pad_to_square(labels[top : top + side, left : left + side], side, value=padding_label(self.resize))
        return Sample(to_tensor(pixels), torch.from_numpy(labels.astype(np.int64)), torch.tensor(case))

    def _load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index in self._cache:
            return self._cache[index]
        pixels, labels = read_pair(self.cases[index], num_classes=self.num_classes)
        size = network_size(labels.shape, resize=self.resize, image_size=self.image_size)
        pair = resize_image(pixels, size), resize_labels(labels, size)
        if self._free_bytes >= pair[0].nbytes + pair[1].nbytes:
            self._free_bytes -= pair[0].nbytes + pair[1].nbytes
            self._cache[index] = pair
        return pair

    def _crop_corner(self, labels: np.ndarray, generator: np.random.Generator) -> tuple[int, int]:
        """Top-left pixel of the crop; (0, 0) where the image is no larger than a sample."""
        slack = [max(0, side - self.image_size) for side in labels.shape]
        if not any(slack):
            return 0, 0
        wanted = generator.random() < self.foreground_crops
        foreground = np.flatnonzero((labels > 0) & (labels != IGNORED)) if wanted else np.empty(0)
        if foreground.size == 0:
            return int(generator.integers(slack[0] + 1)), int(generator.integers(slack[1] + 1))
        centre = np.unravel_index(int(generator.choice(foreground)), labels.shape)
        top, left = (int(np.clip(centre[axis] - self.image_size // 2, 0, slack[axis])) for axis in (0, 1))
        return top, left


def padding_label(resize: Resize) -> int:
    """Label of what a sample holds beside its image.

    With "longer" a large part of every sample may be padding, which must not count as background.
    """
    return IGNORED if resize == "longer" else 0
