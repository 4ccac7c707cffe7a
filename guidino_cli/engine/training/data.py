"""Training batches from any position of an epoch, and errors raised by the data loader."""

import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from guidino_cli.config import RunConfig
from guidino_cli.data.dataset import EpochSampler, SegmentationDataset
from guidino_cli.errors import ConfigError, ResourceError, UserError
from guidino_cli.types import Case, Sample

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


class TrainLoader:
    """Training batches of one process.

    They stay in main memory, pinned where they go to a GPU: reading case indices from there would wait for it.

    Args:
        cases: Labelled cases.
        config: Of the run.
        num_classes: K, background included.
        accelerator: Gives each process its share.

    Attributes:
        steps: Batches per epoch on this process.
        cases_per_epoch: Cases used in an epoch, on all processes together.

    Raises:
        ConfigError: Too few cases for one batch on each process.
    """

    def __init__(self, cases: Sequence[Case], config: RunConfig, *, num_classes: int, accelerator: Accelerator) -> None:
        size, processes = config.train.batch_size, accelerator.num_processes
        self._sampler = EpochSampler(len(cases), seed=config.seed)
        self._cases_per_step = size * processes
        loader = _loader(_dataset(cases, config, num_classes), self._sampler, config, accelerator.device)
        self._loader = accelerator.prepare_data_loader(loader, device_placement=False)
        self.steps = len(self._loader)
        if self.steps == 0:
            raise ConfigError(
                f"{len(cases)} training cases fill no batch of {size} on each of {processes} processes; "
                "lower train.batch_size or use fewer processes"
            )
        self.cases_per_epoch = min(len(cases), self.steps * self._cases_per_step)

    def iterate(self, epoch: int, *, start: int) -> Iterator[Sample | UserError]:
        """Batches of an epoch from number `start` on; earlier ones are not loaded. See `batches_until_error`."""
        # Through accelerate's loader, which would otherwise count epochs from 0 after a resume.
        self._loader.set_epoch(epoch)
        self._sampler.skipped = start * self._cases_per_step
        yield from batches_until_error(self._loader)


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


def _loader(
    dataset: SegmentationDataset, sampler: EpochSampler, config: RunConfig, device: torch.device
) -> DataLoader[Sample]:
    settings = config.train
    return DataLoader(
        dataset,
        batch_size=settings.batch_size,
        sampler=sampler,
        num_workers=settings.workers,
        # Otherwise their caches of decoded images would be lost after every epoch.
        persistent_workers=settings.workers > 0,
        worker_init_fn=ignore_interrupts,
        # A last batch of one sample would leave batch normalization nothing to normalize over.
        drop_last=len(dataset) >= settings.batch_size,
        pin_memory=device.type == "cuda",
        # Its own: a loader draws a number whenever it starts, so the run's random numbers would depend on resumes.
        generator=torch.Generator(),
    )
