"""Number of epochs that a run on few images needs for `train.min_steps`."""

import math
from dataclasses import replace

from guidino_cli.config import RunConfig
from guidino_cli.distributed import rank
from guidino_cli.progress import log_info, pluralize


def with_enough_epochs(config: RunConfig, *, images: int, processes: int) -> RunConfig:
    """The settings of a new run with so many epochs that it has `train.min_steps` optimisation steps; says so.

    Args:
        config: Its settings; unchanged if their epochs are enough.
        images: Number of training images, each of which is taken once an epoch.
        processes: Number of processes of the run, each with batches of its own.
    """
    settings = config.train
    batches = max(1, images // (settings.batch_size * processes))
    steps = math.ceil(batches / settings.accumulate)
    epochs = math.ceil(settings.min_steps / steps)
    if epochs <= settings.epochs:
        return config
    if rank() == 0:
        log_info(
            f"guidino: {pluralize(epochs, 'epoch')} instead of {settings.epochs}: an epoch of "
            f"{pluralize(images, 'image')} has {pluralize(steps, 'step')}, and train.min_steps is "
            f"{settings.min_steps} (0 keeps {pluralize(settings.epochs, 'epoch')})"
        )
    return replace(config, train=settings.with_epochs(epochs))
