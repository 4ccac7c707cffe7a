"""Training batches from any position of an epoch, and errors raised by the data loader."""

import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset, default_collate

from guidino_cli.config import RunConfig
from guidino_cli.data.augment import AugmentationParams, draw_augmentation
from guidino_cli.data.dataset import EpochSampler, SampleIndex, SegmentationDataset, random_generator
from guidino_cli.data.transforms import draw_noise
from guidino_cli.data.volume_dataset import PatchDataset, Sampling, SliceDataset, StepSampler
from guidino_cli.engine.runs.inputs import NetworkInput
from guidino_cli.errors import ConfigError, ResourceError, UserError
from guidino_cli.types import Case, Sample, VolumeSample

_DEFAULT_STEPS = 250
"""Steps of an epoch on volumes (nnU-Net), where `train.steps` is 0."""
T = TypeVar("T")


def batches_until_error(loader: Iterable[T]) -> Iterator[T | UserError]:
    """Iterate over a loader; an error is yielded as the last item instead of raised.

    The steps before it are then complete and can be saved.
    """
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:
            yield _without_traceback(error)
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            yield _worker_died(str(error).splitlines()[0].rstrip("."))
            return
        except (EOFError, ConnectionError):
            # It died while sending a batch, before torch noticed.
            yield _worker_died("it ended in the middle of a batch")
            return
        _ignore_dead_workers()
        yield batch


def ignore_interrupts(_: int) -> None:
    """Ignore Ctrl-C in a data loader worker: the training process decides when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _ignore_dead_workers() -> None:
    """Notice a dead worker when its batch is requested, not by a signal in a step, which would be lost."""
    if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        except ValueError:  # Only the main thread may set handlers.
            return


def _without_traceback(error: UserError) -> UserError:
    """An error of a worker without the traceback that torch writes into its message."""
    line = str(error).strip().splitlines()[-1]
    _, named, message = line.partition(f"{type(error).__name__}: ")
    return type(error)(message) if named else error


def _worker_died(reason: str) -> ResourceError:
    return ResourceError(
        f"a data loader worker died ({reason}), probably out of memory; "
        "close other programs, or start a run with fewer train.workers or a lower data.cache_gb"
    )


def steps_per_epoch(config: RunConfig) -> int:
    """Optimisation steps of an epoch on volumes, `train.steps` or nnU-Net's number."""
    return config.train.steps or _DEFAULT_STEPS


class TrainLoader:
    """Training batches of one process: every image once in an epoch, or `train.steps` batches of volumes.

    They stay in main memory, pinned where they go to a GPU: reading case indices from there would wait for it.

    Args:
        cases: Labelled cases.
        config: Settings of the run.
        num_classes: K, background included.
        accelerator: Gives each process its share.
        network_input: Tells images from slices and patches of volumes.

    Attributes:
        steps: Batches per epoch on this process.
        cases_per_epoch: Images, slices or patches used in an epoch, on all processes together.

    Raises:
        ConfigError: Too few cases for one batch on each process.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        config: RunConfig,
        *,
        num_classes: int,
        accelerator: Accelerator,
        network_input: NetworkInput | None = None,
    ) -> None:
        size, processes = config.train.batch_size, accelerator.num_processes
        self._cases_per_step = size * processes
        self._sampler: EpochSampler | StepSampler
        dataset: SegmentationDataset | SliceDataset | PatchDataset
        if network_input is None or network_input.volumes is None:
            self._sampler = EpochSampler(len(cases), seed=config.seed)
            dataset = _dataset(cases, config, num_classes)
        else:
            self._sampler = StepSampler(steps_per_epoch(config) * self._cases_per_step)
            dataset = _volume_dataset(cases, config, num_classes, network_input, length=len(self._sampler))
        loader = _loader(dataset, self._sampler, config, accelerator.device)
        self._dataset = dataset
        self._loader = accelerator.prepare_data_loader(loader, device_placement=False)
        self.steps = len(self._loader)
        if self.steps == 0:
            raise ConfigError(
                f"{len(cases)} training cases fill no batch of {size} on each of {processes} processes; "
                "lower train.batch_size or use fewer processes"
            )
        self.cases_per_epoch = min(len(self._sampler), self.steps * self._cases_per_step)

    def unaugmented(self, case: int) -> Sample:
        """A batch of one image, as in the first epoch before augmentation; `DataError` if it cannot be used."""
        if not isinstance(self._dataset, SegmentationDataset):
            raise ValueError("only images are looked at as a whole")
        sample = self._dataset[SampleIndex(0, case)]
        return Sample(sample.image[None], sample.mask[None], sample.case_index[None])

    def iterate(self, epoch: int, *, start: int) -> Iterator[Sample | VolumeSample | UserError]:
        """Batches of an epoch from number `start` on; earlier ones are not loaded. See `batches_until_error`."""
        # Through accelerate's loader, which would otherwise count epochs from 0 after a resume.
        self._loader.set_epoch(epoch)
        self._sampler.skipped = start * self._cases_per_step
        yield from batches_until_error(self._loader)


def draw_for_sample(config: RunConfig, index: SampleIndex, shape: Sequence[int]) -> AugmentationParams:
    """The augmentation of a sample, which seed, epoch and sample determine.

    Args:
        config: Settings of the run.
        index: Index of the sample.
        shape: Shape of its image: (C, H, W) or (C, D, H, W).
    """
    channels, *sides = shape
    return draw_augmentation(
        config.data.augment,
        random_generator(config.seed, index.epoch, index.case, 1),
        channels=channels,
        patch_size=sides if len(sides) == 3 else None,
    )


class _WithNoise(Dataset[Sample | VolumeSample]):
    """Samples with the noise of their augmentation, which takes long to draw: workers do so, not the training process.

    Args:
        dataset: Data set of samples without it.
        config: Settings of the run.
    """

    def __init__(self, dataset: SegmentationDataset | SliceDataset | PatchDataset, config: RunConfig) -> None:
        self._dataset, self._config = dataset, config

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: SampleIndex) -> Sample | VolumeSample:
        """A sample of the data set; `DataError` if it cannot be used."""
        sample: Sample | VolumeSample = self._dataset[index]
        params = draw_for_sample(self._config, index, sample.image.shape)
        return sample._replace(noise=[draw_noise(sample.image.shape, params.seed)]) if params.noise else sample


def _collate(samples: Sequence[Sample | VolumeSample]) -> Sample | VolumeSample:
    """A batch; of its samples only some have noise."""
    batch: Sample | VolumeSample = default_collate([sample._replace(noise=()) for sample in samples])
    return batch._replace(noise=[noise for sample in samples for noise in sample.noise])


def _dataset(cases: Sequence[Case], config: RunConfig, num_classes: int) -> SegmentationDataset:
    settings = config.data
    return SegmentationDataset(
        cases,
        num_classes=num_classes,
        image_size=settings.image_size,
        resize=settings.resize,
        foreground_crops=settings.foreground_crops,
        cache_gb=settings.cache_gb / max(1, config.train.workers),
        seed=config.seed,
    )


def _volume_dataset(
    cases: Sequence[Case], config: RunConfig, num_classes: int, network_input: NetworkInput, *, length: int
) -> SliceDataset | PatchDataset:
    settings = config.data
    if network_input.volumes is None:
        raise ValueError("images have no slices")
    sampling = Sampling(
        network_input.volumes,
        num_classes=None if config.model.target == "affinities" else num_classes,
        batch_size=config.train.batch_size,
        foreground_share=settings.foreground_crops,
        length=length,
        seed=config.seed,
    )
    if network_input.patch_size is not None:
        return PatchDataset(cases, sampling, patch_size=network_input.patch_size)
    size, resize = settings.image_size, settings.resize
    return SliceDataset(cases, sampling, image_size=size, resize=resize, slab=network_input.slab)


def _loader(
    dataset: SegmentationDataset | SliceDataset | PatchDataset,
    sampler: EpochSampler | StepSampler,
    config: RunConfig,
    device: torch.device,
) -> DataLoader[Any]:
    settings = config.train
    return DataLoader(
        _WithNoise(dataset, config),
        collate_fn=_collate,
        batch_size=settings.batch_size,
        sampler=sampler,
        num_workers=settings.workers,
        # Otherwise their caches of decoded images would be lost after every epoch.
        persistent_workers=settings.workers > 0,
        worker_init_fn=ignore_interrupts,
        # A last batch of one sample would leave batch normalization nothing to normalize over.
        drop_last=len(sampler) >= settings.batch_size,
        pin_memory=device.type == "cuda",
        # Its own: a loader draws a number whenever it starts, so the run's random numbers would depend on resumes.
        generator=torch.Generator(),
    )
