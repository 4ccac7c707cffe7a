"""What the state of a pretraining run holds: all that decides the steps to come."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.optim import Optimizer

from guidino_cli.engine.random_state import random_state, set_random_state
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.ssl.objective import Objective

_FORMAT = 1


@dataclass
class Standing:
    """Where a run stands.

    Attributes:
        step: Finished steps of the optimiser.
        since: Step of the last row of the history.
        sums: Every term and figure, summed over the batches since then.
        seconds: What the run has taken so far.
        row_seconds: What the steps since the last row have taken.
    """

    step: int = 0
    since: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    row_seconds: float = 0.0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Count in what a batch has shown."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()

    def begin_row(self) -> None:
        """Forget what the last row of the history has told."""
        self.since, self.sums, self.row_seconds = self.step, {}, 0.0


class Checkpoint:
    """Everything of a run that changes with its steps; schedules are functions of the step alone.

    Args:
        accelerator: Of the run.
        objective: Without any wrapper.
        optimizer: As accelerate prepared it.
    """

    def __init__(self, accelerator: Accelerator, objective: Objective, optimizer: Optimizer) -> None:
        self._accelerator, self._objective, self._optimizer = accelerator, objective, optimizer

    def capture(self, at: Standing) -> dict[str, Any]:
        """Tensors and plain values, between two steps; every process must call it."""
        sums = {name: self._accelerator.reduce(value, "mean") for name, value in at.sums.items()}
        return {
            "format": _FORMAT,
            "processes": self._accelerator.num_processes,
            "objective": self._objective.own_state(),
            "optimizer": self._optimizer.state_dict(),
            "random": gather_object([random_state(self._accelerator.device)]),
            **asdict(at),
            "sums": sums,
        }

    def restore(self, state: Mapping[str, Any]) -> Standing:
        """Be as at the moment of `capture`, and say which it was.

        Raises:
            ConfigError: Saved by another number of processes: batches would be of another size.
            DataError: Of another format or another objective.
        """
        if state.get("format") != _FORMAT:
            raise DataError("written by another version of guidino; go on with that one, or begin anew")
        if state["processes"] != self._accelerator.num_processes:
            raise ConfigError(
                f"saved by {state['processes']} processes, but now there are {self._accelerator.num_processes}; "
                "go on with as many as before"
            )
        try:
            self._objective.load_own_state(state["objective"])
            self._optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise DataError(f"does not fit the run's settings ({str(error).splitlines()[0]})") from error
        set_random_state(state["random"][self._accelerator.process_index], self._accelerator.device)
        at = Standing(**{name: state[name] for name in Standing.__dataclass_fields__})
        at.sums = {name: value.to(self._accelerator.device) for name, value in at.sums.items()}
        return at
