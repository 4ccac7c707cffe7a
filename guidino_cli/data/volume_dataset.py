"""Training samples of volumes: slices, slabs of neighbouring slices, or patches, as nnU-Net draws them.

Each sample draws a case with equal chance. The last third of every batch (`data.foreground_crops`) is forced to show
foreground: a class among those of the case, then one of its stored voxels. A slice is then that of the voxel, any other
one uniform, empty ones included; a crop or a patch has the voxel in its centre, as far as the volume reaches. Source:
nnU-Net 2.8.1 (`nnUNetDataLoader`), which lets a forced patch reach beyond the far sides of the volume; here it does
not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from guidino_cli.data.cases import IGNORED
from guidino_cli.data.dataset import SampleIndex, padding_label, random_generator
from guidino_cli.data.preprocess import Resize, network_size, pad_to_square, resize_channels, resize_labels
from guidino_cli.data.volumes.network_views import Triple, read_patch, read_slab, read_voxels, to_network_order
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.data.volumes.stored import open_array
from guidino_cli.errors import DataError
from guidino_cli.types import Case, StoredVolume, VolumeSample


class StepSampler(Sampler[SampleIndex]):
    """The positions of an epoch in their order: as many as its steps have samples, however many cases there are.

    Args:
        length: Samples of an epoch on all processes together.

    Attributes:
        epoch: Epoch that the positions belong to.
        skipped: Positions left out at the start, because they were trained on before an interruption.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.epoch = 0
        self.skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Yield the positions of this epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[SampleIndex]:
        yield from (SampleIndex(self.epoch, position) for position in range(self.skipped, self.length))

    def __len__(self) -> int:
        """Number of samples in a whole epoch."""
        return self.length


class Place(NamedTuple):
    """Location of a sample: a case, and the slice or voxel on which it is centred.

    Attributes:
        case: Position of the case in its list.
        voxel: In the network's order of axes; None for a uniform place.
    """

    case: int
    voxel: Triple | None


@dataclass(frozen=True)
class Sampling:
    """Settings for drawing samples of volumes.

    Attributes:
        preprocessing: Maps intensities and orders axes.
        num_classes: K; a label of K or more is an error. None for instance numbers.
        batch_size: Samples of a batch on each process.
        foreground_share: Share of a batch, at its end, whose samples are forced to show foreground.
        length: Samples of an epoch.
        seed: Random seed.
    """

    preprocessing: VolumePreprocessing
    num_classes: int | None
    batch_size: int
    foreground_share: float
    length: int
    seed: int

    def is_forced(self, position: int, generator: np.random.Generator) -> bool:
        """nnU-Net forces the last samples of a batch; of batches of one, which would have none, a share at random."""
        if self.batch_size == 1:
            return bool(generator.random() < self.foreground_share)
        return position % self.batch_size >= round(self.batch_size * (1 - self.foreground_share))


class _VolumeDataset(Dataset[VolumeSample]):
    """Draws places; `__getitem__` of a subclass reads what is there.

    Samples depend only on the seed, the epoch and the position in it, not on workers. Voxels with the ignore label of a
    case are `IGNORED`.

    Args:
        cases: Labelled volumes.
        sampling: How samples are drawn.
    """

    def __init__(self, cases: Sequence[Case], sampling: Sampling) -> None:
        self.cases = cases
        self.sampling = sampling
        self._present: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.sampling.length

    def _draw(self, index: SampleIndex) -> tuple[Place, np.random.Generator]:
        """The place of a sample, and its random generator for what else is drawn."""
        epoch, position = index
        generator = random_generator(self.sampling.seed, epoch, position)
        case = int(generator.integers(len(self.cases)))
        voxel = self._foreground_voxel(case, generator) if self.sampling.is_forced(position, generator) else None
        return Place(case, voxel), generator

    def _foreground_voxel(self, case: int, generator: np.random.Generator) -> Triple | None:
        """A stored voxel of a class of the case, in the network's axes; None if the case has no foreground."""
        volume = self._volume(case)
        if volume.foreground is None:
            return None
        rows = np.asarray(open_array(volume.foreground))
        if case not in self._present:
            self._present[case] = np.unique(rows[:, 0])
        if len(self._present[case]) == 0:
            return None
        own = np.flatnonzero(rows[:, 0] == generator.choice(self._present[case]))
        _, z, y, x = rows[generator.choice(own)].tolist()
        return to_network_order((z, y, x), self.sampling.preprocessing)

    def _volume(self, case: int) -> StoredVolume:
        volume = self.cases[case].volume
        if volume is None:
            raise DataError(f"{self.cases[case].image}: is an image, expected a volume; run `guidino prepare` again")
        return volume

    def _labels_path(self, case: int) -> Path:
        path = self._volume(case).labels
        if path is None:
            raise DataError(f"{self.cases[case].image}: has no labels and cannot be trained on")
        return path

    def _shape(self, case: int) -> Triple:
        return to_network_order(self._volume(case).shape, self.sampling.preprocessing)

    def _checked_labels(self, case: int, labels: np.ndarray) -> np.ndarray:
        """Labels with `IGNORED` for the ignore label; `DataError` for a class of K or more."""
        if self.sampling.num_classes is None:
            return labels
        label = self.cases[case].ignore_label
        ignored = None if label is None else labels == label
        counted = labels if ignored is None else np.where(ignored, 0, labels)
        path, highest = self._labels_path(case), self.sampling.num_classes - 1
        if counted.size and counted.max() > highest:
            raise DataError(f"{path}: has class {counted.max()}, expected 0..{highest}; run `guidino prepare` again")
        return labels if ignored is None else np.where(ignored, np.asarray(IGNORED, dtype=labels.dtype), labels)

    def _sample(
        self, image: np.ndarray, mask: np.ndarray, index: SampleIndex, case: int, corner: Triple
    ) -> VolumeSample:
        return VolumeSample(
            torch.from_numpy(np.ascontiguousarray(image)),
            torch.from_numpy(mask.astype(np.int64)),
            torch.tensor(case),
            torch.tensor(index.case),
            torch.tensor(corner),
        )


class SliceDataset(_VolumeDataset):
    """Slices, or slabs of slices as channels, of (image_size, image_size).

    Args:
        cases: Labelled volumes.
        sampling: How samples are drawn.
        image_size: Side of a sample in pixels.
        resize: See `DataSettings.resize`.
        slab: Slices of a sample; 1 for single ones.
    """

    def __init__(
        self, cases: Sequence[Case], sampling: Sampling, *, image_size: int, resize: Resize, slab: int = 1
    ) -> None:
        super().__init__(cases, sampling)
        self.image_size, self.resize, self.slab = image_size, resize, slab

    def __getitem__(self, index: SampleIndex) -> VolumeSample:
        """Load a sample; `DataError` names the file if it cannot be used."""
        (case, voxel), generator = self._draw(index)
        depth, *plane = self._shape(case)
        number = int(generator.integers(depth)) if voxel is None else voxel[0]
        size = network_size((plane[0], plane[1]), resize=self.resize, image_size=self.image_size)
        image, labels = self._read(case, number, size)
        corner = self._crop_corner(size, (plane[0], plane[1]), voxel, generator)
        rows, columns = (slice(first, first + self.image_size) for first in corner)
        image = pad_to_square(image[..., rows, columns], self.image_size, axes=(-2, -1))
        labels = pad_to_square(labels[..., rows, columns], self.image_size, value=padding_label(self.resize))
        return self._sample(image, labels, index, case, (number, *corner))

    def _read(self, case: int, number: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Slice (slab * outputs, H, W) and labels (H, W) in the network's grid."""
        volume = self._volume(case)
        array, stored = open_array(volume.image), open_array(self._labels_path(case))
        pixels = read_slab(array, volume.statistics, number, self.sampling.preprocessing, slab=self.slab)
        labels = read_voxels(stored, (number, 0, 0), (1, *pixels.shape[1:]), self.sampling.preprocessing)[0]
        return resize_channels(pixels, size), resize_labels(self._checked_labels(case, labels), size)

    def _crop_corner(
        self, size: tuple[int, int], plane: tuple[int, int], voxel: Triple | None, generator: np.random.Generator
    ) -> tuple[int, int]:
        """Top-left pixel of the crop; 0 along an axis on which the slice is no larger than a sample."""
        slack = [max(0, side - self.image_size) for side in size]
        if voxel is None:
            return int(generator.integers(slack[0] + 1)), int(generator.integers(slack[1] + 1))
        # The voxel's centre in the network's grid, which may be resized.
        centre = [int((voxel[axis + 1] + 0.5) * size[axis] / plane[axis]) for axis in (0, 1)]
        top, left = (min(max(0, centre[axis] - self.image_size // 2), slack[axis]) for axis in (0, 1))
        return top, left


class PatchDataset(_VolumeDataset):
    """Patches (C, D, H, W) of one size.

    A volume that is smaller than the patch lies at its start; beyond it image and mask repeat its last voxels, as
    prediction does. (nnU-Net puts it in the middle of zeros after normalisation.)

    Args:
        cases: Labelled volumes.
        sampling: How samples are drawn.
        patch_size: D, H, W.
    """

    def __init__(self, cases: Sequence[Case], sampling: Sampling, *, patch_size: Sequence[int]) -> None:
        super().__init__(cases, sampling)
        depth, height, width = patch_size
        self.patch_size = (depth, height, width)

    def __getitem__(self, index: SampleIndex) -> VolumeSample:
        """Load a sample; `DataError` names the file if it cannot be used."""
        (case, voxel), generator = self._draw(index)
        volume = self._volume(case)
        corner = patch_corner(self._shape(case), self.patch_size, voxel, generator)
        image = read_patch(
            open_array(volume.image), volume.statistics, corner, self.patch_size, self.sampling.preprocessing
        )
        labels = read_voxels(open_array(self._labels_path(case)), corner, self.patch_size, self.sampling.preprocessing)
        mask = self._checked_labels(case, labels)
        return self._sample(image, mask, index, case, corner)


def patch_corner(shape: Triple, patch_size: Triple, voxel: Triple | None, generator: np.random.Generator) -> Triple:
    """First voxel of a patch inside a volume; 0 along axes on which the volume is no larger than the patch."""
    slack = [max(0, side - count) for side, count in zip(shape, patch_size, strict=True)]
    if voxel is None:
        first, top, left = (int(generator.integers(room + 1)) for room in slack)
    else:
        places = zip(voxel, patch_size, slack, strict=True)
        first, top, left = (min(max(0, centre - count // 2), room) for centre, count, room in places)
    return first, top, left
