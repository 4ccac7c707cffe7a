"""A resumed run with more epochs than it was started with, or another patience; no other setting may change."""

from collections.abc import Sequence
from dataclasses import replace

from guidino_cli.config import RunConfig, override
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import ConfigError
from guidino_cli.progress import pluralize


def extend_schedule(folder: RunFolder, config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """Settings with which a run is resumed: its own, or those with another `train.epochs` and `train.patience`.

    The learning rate then follows the schedule for the new number of epochs, from the step that was reached on.

    Args:
        folder: The run.
        config: Its settings.
        overrides: Requested changes, `a.b=c`.

    Raises:
        ConfigError: Another setting is to change, or no epoch would be left to train.
    """
    requested = override(config, overrides)
    if requested == config:
        return config
    train = replace(config.train, epochs=requested.train.epochs, patience=requested.train.patience)
    if replace(config, train=train) != requested:
        raise ConfigError(
            f"{folder.path}: --resume uses the run's own settings, of which only train.epochs and train.patience may "
            "change; leave out other --set and --seed, or start a new run from it with --from"
        )
    finished = len(folder.history())
    if train.epochs <= finished:
        raise ConfigError(
            f"{folder.path}: train.epochs is {train.epochs}, but the run has finished {pluralize(finished, 'epoch')}; "
            f"give a higher number, such as --set train.epochs={2 * finished}"
        )
    return requested
