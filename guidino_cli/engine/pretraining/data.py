"""Infinite stream of unlabelled image batches, and a fingerprint of the image files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from accelerate import PartialState
from torch.utils.data import DataLoader

from guidino_cli.data.dataset import SampleIndex, infinite_sample_indices
from guidino_cli.data.unlabelled import UnlabelledDataset
from guidino_cli.engine.training.data import batches_until_error, ignore_interrupts
from guidino_cli.errors import ConfigError, DataError, UserError
from guidino_cli.files import lines_sha256, relative_posix
from guidino_cli.pretrain_config import PretrainConfig
from guidino_cli.types import UnlabelledSample


class ImageStream:
    """Infinite stream of the batches of one process; a batch may span the end of an epoch.

    Args:
        paths: Image files.
        config: Settings of the run.
        start: Batches to skip, when a run is resumed.

    Raises:
        ConfigError: Fewer images than the batches of all processes, or a batch size that KoLeo's groups do not fit.
    """

    def __init__(self, paths: Sequence[Path], config: PretrainConfig, *, start: int = 0) -> None:
        size, processes = config.train.batch_size, PartialState().num_processes
        if len(paths) < size * processes:
            raise ConfigError(
                f"{len(paths)} images do not fill a batch of {size} on each of {processes} processes; "
                "lower train.batch_size (and raise train.accumulate), or add images"
            )
        _require_groups(config, processes=processes)
        self._paths, self._config, self._taken = paths, config, start
        self._side: int | None = None
        self._batches: Iterator[UnlabelledSample | UserError] = iter(())

    def take(self, *, side: int) -> UnlabelledSample | UserError:
        """The next batch in main memory, its images squeezed to `side`; or an error, after which no batch follows."""
        if side != self._side:
            self._side, self._batches = side, batches_until_error(self._loader(side))
        self._taken += 1
        return next(self._batches)

    def _loader(self, side: int) -> DataLoader[UnlabelledSample]:
        settings = self._config.data
        cache_gb = settings.cache_gb / max(1, settings.workers)
        return DataLoader(
            UnlabelledDataset(self._paths, side=side, cache_gb=cache_gb),
            batch_sampler=_DistributedBatchSampler(len(self._paths), self._config, start=self._taken),
            num_workers=settings.workers,
            worker_init_fn=ignore_interrupts,
            # Not where a machine has a card that --device cpu leaves alone.
            pin_memory=PartialState().device.type == "cuda",
            # Its own, since a loader draws a number when it starts: the run's random numbers would depend on resumes.
            generator=torch.Generator(),
        )


def _require_groups(config: PretrainConfig, *, processes: int) -> None:
    size = config.train.batch_size
    for number, stage in enumerate(config.stages):
        group = stage.koleo_group
        if group is None or size % group == 0 or (group % size == 0 and processes % (group // size) == 0):
            continue
        where = f"on each of {processes} processes" if processes > 1 else "on one process"
        raise ConfigError(
            f"stages.{number}.koleo_group is {group}, but a batch has {size} images {where}; use a divisor of {size}"
            + (f", or a multiple of it that divides {size * processes}" if processes > 1 else "")
        )


class _DistributedBatchSampler:
    """Infinite indices of this process's share of each global batch."""

    def __init__(self, length: int, config: PretrainConfig, *, start: int) -> None:
        self._length, self._config, self._start = length, config, start

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        state, size = PartialState(), self._config.train.batch_size
        global_size = size * state.num_processes
        indices = infinite_sample_indices(self._length, seed=self._config.seed, start=self._start * global_size)
        while True:
            batch = list(islice(indices, global_size))
            yield batch[state.process_index * size : (state.process_index + 1) * size]


@dataclass(frozen=True)
class ImageFingerprint:
    """Fingerprint of the images of a run, recorded in `pretraining.json`.

    Attributes:
        folder: Folder of the images.
        images: Number of images.
        names_sha256: SHA-256 of their paths within the folder, in order.
        sizes_sha256: SHA-256 of their sizes in bytes.
    """

    folder: str
    images: int
    names_sha256: str
    sizes_sha256: str


def fingerprint_images(folder: Path, paths: Sequence[Path]) -> ImageFingerprint:
    """Fingerprint images by names and sizes: cheap for millions of files.

    Raises:
        DataError: A file is missing.
    """
    names = lines_sha256(relative_posix(path, folder) for path in paths)
    sizes = lines_sha256(str(_file_size(path)) for path in paths)
    return ImageFingerprint(str(folder.resolve()), len(paths), names, sizes)


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore or remove it") from error
