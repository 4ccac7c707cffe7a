"""What a run's state holds: all that decides the steps to come, so that they are the same after a kill."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accelerate import Accelerator
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from guidino_cli.engine.checkpointing import RunState, capture_run, require_resumable, restore_run
from guidino_cli.engine.runs.best import trained_state_dict
from guidino_cli.errors import DataError
from guidino_cli.models.composed import Model

_FORMAT = 2


@dataclass
class TrainState(RunState):
    """Where a run stands.

    Attributes:
        epoch: Finished epochs.
        step: Finished batches of the running epoch, on each process.
        rates: Learning rates at the beginning of the running epoch.
        seconds: What those batches took.
        best_dice: Highest validation Dice; -1 before the first validation.
        best_epoch: Epoch that it belongs to, from 1; 0 before the first validation.
    """

    epoch: int = 0
    step: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    best_dice: float = -1.0
    best_epoch: int = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Count one batch."""
        super().add(values)
        self.step += 1

    def finish_epoch(self) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch, self.step, self.rates, self.sums, self.seconds = self.epoch + 1, 0, {}, {}, 0.0


class TrainCheckpoint:
    """Everything of a run that changes with its steps.

    Args:
        accelerator: Of the run.
        model: Without any wrapper.
        optimizer: As accelerate prepared it.
        schedule: Learning rate.
    """

    def __init__(self, accelerator: Accelerator, model: Model, optimizer: Any, schedule: LRScheduler) -> None:
        self._accelerator, self._model, self._optimizer, self._schedule = accelerator, model, optimizer, schedule

    def capture(self, at: TrainState) -> dict[str, Any]:
        """Tensors and plain values, between two steps of the optimiser; every process must call it."""
        scaler = self._accelerator.scaler
        return {
            **capture_run(at, self._accelerator, version=_FORMAT),
            "model": trained_state_dict(self._model),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
        }

    def restore(self, state: Mapping[str, Any]) -> TrainState:
        """Be as at the moment of `capture`, and say which it was.

        Raises:
            ConfigError: Saved by another number of processes: batches would be of another size.
            DataError: Of another format or another model.
        """
        require_resumable(state, self._accelerator, version=_FORMAT)
        unfit = set(state["model"]) ^ set(trained_state_dict(self._model))
        if unfit:
            raise DataError(f"does not fit the model ({len(unfit)} tensors, {min(unfit)})")
        self._model.load_state_dict(state["model"], strict=False)
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        if self._accelerator.scaler is not None and state["scaler"]:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        return restore_run(state, self._accelerator, TrainState)
