"""What a run's state holds: all that decides the steps to come, so that they are the same after a kill."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from guidino_cli.engine.random_state import random_state, set_random_state
from guidino_cli.engine.runs.best import own_tensors
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.models.composed import Model

_FORMAT = 2


@dataclass
class Standing:
    """Where a run stands.

    Attributes:
        epoch: Finished epochs.
        step: Finished batches of the running epoch, on each process.
        rates: Learning rates at the beginning of the running epoch.
        sums: Every loss term, summed over those batches.
        seconds: What those batches took.
        best_dice: Highest validation Dice; -1 before the first validation.
        best_epoch: Epoch that it belongs to, from 1; 0 before the first validation.
    """

    epoch: int = 0
    step: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    best_dice: float = -1.0
    best_epoch: int = 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Count one batch."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()
        self.step += 1

    def finish_epoch(self) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch, self.step, self.rates, self.sums, self.seconds = self.epoch + 1, 0, {}, {}, 0.0


class Checkpoint:
    """Everything of a run that changes with its steps.

    Args:
        accelerator: Of the run.
        model: Without any wrapper.
        optimizer: As accelerate prepared it.
        schedule: Learning rate.
    """

    def __init__(self, accelerator: Accelerator, model: Model, optimizer: Any, schedule: LRScheduler) -> None:
        self._accelerator, self._model, self._optimizer, self._schedule = accelerator, model, optimizer, schedule

    def capture(self, at: Standing) -> dict[str, Any]:
        """Tensors and plain values, between two steps of the optimiser; every process must call it."""
        scaler = self._accelerator.scaler
        sums = {name: self._accelerator.reduce(value, "mean") for name, value in at.sums.items()}
        return {
            "format": _FORMAT,
            "processes": self._accelerator.num_processes,
            "model": own_tensors(self._model),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "random": gather_object([random_state(self._accelerator.device)]),
            **asdict(at),
            "sums": sums,
        }

    def restore(self, state: Mapping[str, Any]) -> Standing:
        """Be as at the moment of `capture`, and say which it was.

        Raises:
            ConfigError: Saved by another number of processes: batches would be of another size.
            DataError: Of another format or another model.
        """
        if state.get("format") != _FORMAT:
            raise DataError("written by another version of guidino; go on with that one, or train anew")
        unfit = set(state["model"]) ^ set(own_tensors(self._model))
        if unfit:
            raise DataError(f"does not fit the model ({len(unfit)} tensors, {min(unfit)})")
        if state["processes"] != self._accelerator.num_processes:
            raise ConfigError(
                f"saved by {state['processes']} processes, but now there are {self._accelerator.num_processes}; "
                "go on with as many as before"
            )
        self._model.load_state_dict(state["model"], strict=False)
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        if self._accelerator.scaler is not None and state["scaler"]:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        set_random_state(state["random"][self._accelerator.process_index], self._accelerator.device)
        at = Standing(**{name: state[name] for name in Standing.__dataclass_fields__})
        at.sums = {name: value.to(self._accelerator.device) for name, value in at.sums.items()}
        return at
