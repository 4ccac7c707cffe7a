"""A resumed run with more epochs than it was started with, or another patience; no other setting may change."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from guidino_cli.config import RunConfig, TrainSettings, override
from guidino_cli.config_checks import require_reachable_patience
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import ConfigError
from guidino_cli.progress import pluralize

EXTENDABLE = ("train.epochs", "train.patience")
"""Settings that may change when a run is resumed."""


def extend_schedule(folder: RunFolder, config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """Settings with which a run is resumed: its own, or those with another `train.epochs` and `train.patience`.

    The learning rate then follows the schedule for the new number of epochs, from the step that was reached on.

    Args:
        folder: The run.
        config: Its settings.
        overrides: Requested changes, `a.b=c`.

    Raises:
        ConfigError: Another setting is to change, or no epoch would be left to train, for their number or the patience.
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
    require_reachable_patience(requested, str(folder.path))
    history = folder.history()
    finished = len(history)
    if train.epochs <= finished:
        raise ConfigError(
            f"{folder.path}: train.epochs is {train.epochs}, but the run has finished {pluralize(finished, 'epoch')}; "
            f"give a higher number, such as --set train.epochs={2 * finished}"
        )
    _require_patience_left(folder, history, train)
    return requested


def _require_patience_left(folder: RunFolder, history: Sequence[Mapping[str, Any]], train: TrainSettings) -> None:
    """Refuse a patience that ends the run before another epoch, as `Trainer.is_out_of_patience` would."""
    finished = len(history)
    scores = [row.get("val_dice", -1.0) for row in history]
    if not train.patience or max(scores, default=-1.0) < 0 or finished % train.validate_every:
        return
    age = finished - 1 - scores.index(max(scores))
    if age >= train.patience:
        raise ConfigError(
            f"{folder.path}: would stop at once: the best val Dice is {pluralize(age, 'epoch')} old and train.patience "
            f"is {train.patience}; give more with --set train.patience=N, or 0 to train all epochs"
        )
