"""Batches of training samples from any point of an epoch on, and errors raised by the data loader."""

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
    """The batches of a loader.

    Where a batch cannot be had, the error comes in its place, as the last item: what was learned before is whole then,
    and can be saved.
    """
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:
            yield _plain(error)
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            yield _worker_lost(str(error).splitlines()[0].rstrip("."))
            return
        except (EOFError, ConnectionError):
            # It died while it handed over what it had loaded, before torch could find it dead.
            yield _worker_lost("it left in the middle of a batch")
            return
        _let_steps_finish()
        yield batch


def ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches a worker too, but it is the training process that decides what becomes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _let_steps_finish() -> None:
    """Let a worker that died be noticed when its batch is wanted, not in the middle of a step, whose work were lost."""
    if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        except ValueError:  # Only the main thread may.
            return


def _plain(error: UserError) -> UserError:
    """An error from a worker without the traceback that torch writes into its message."""
    line = str(error).strip().splitlines()[-1]
    _, named, message = line.partition(f"{type(error).__name__}: ")
    return type(error)(message) if named else error


def _worker_lost(reason: str) -> ResourceError:
    return ResourceError(
        f"a process that loads images died ({reason}), probably for want of memory; "
        "close other programs, or begin a run with fewer train.workers or a lower data.cache_gb"
    )


class TrainLoader:
    """The batches of one process.

    They stay in main memory, pinned where they go to a GPU: to read the numbers of its cases there would wait for it.

    Args:
        cases: Labelled cases.
        config: Of the run.
        num_classes: K, background included.
        accelerator: Gives each process its share.

    Attributes:
        steps: Batches of an epoch on this process.
        shown: Cases that an epoch shows, on all processes together.

    Raises:
        ConfigError: Not one batch for each process.
    """

    def __init__(self, cases: Sequence[Case], config: RunConfig, *, num_classes: int, accelerator: Accelerator) -> None:
        size, processes = config.train.batch_size, accelerator.num_processes
        self._sampler = EpochSampler(len(cases), seed=config.seed)
        self._cases_a_step = size * processes
        loader = _loader(_dataset(cases, config, num_classes), self._sampler, config, accelerator.device)
        self._loader = accelerator.prepare_data_loader(loader, device_placement=False)
        self.steps = len(self._loader)
        if self.steps == 0:
            raise ConfigError(
                f"{len(cases)} training cases fill no batch of {size} on each of {processes} processes; "
                "lower train.batch_size or use fewer processes"
            )
        self.shown = min(len(cases), self.steps * self._cases_a_step)

    def of(self, epoch: int, *, done: int) -> Iterator[Sample | UserError]:
        """The batches of an epoch behind the first `done`, which are not loaded.

        Where a batch cannot be had, the error comes in its place, as the last item: what was learned before is whole
        then, and can be saved.
        """
        # Through accelerate's loader, which else counts epochs from 0 again after a resume and tells the sampler so.
        self._loader.set_epoch(epoch)
        self._sampler.skipped = done * self._cases_a_step
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
        # Else the images that they have decoded go with them after every epoch.
        persistent_workers=settings.workers > 0,
        worker_init_fn=ignore_interrupts,
        # A last batch of one sample would leave batch normalisation nothing to normalise over.
        drop_last=len(dataset) >= settings.batch_size,
        pin_memory=device.type == "cuda",
        # Its own, since a loader draws a number whenever it begins: the run's random numbers would depend on resumes.
        generator=torch.Generator(),
    )
