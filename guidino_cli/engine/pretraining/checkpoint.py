"""What the state of a pretraining run holds: all that decides the steps to come."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from torch.optim import Optimizer

from guidino_cli.engine.checkpoints import Place, captured, require_fit, restored
from guidino_cli.errors import DataError
from guidino_cli.ssl.objective import Objective

_FORMAT = 1


@dataclass
class Standing(Place):
    """Where a run stands.

    Attributes:
        step: Finished steps of the optimiser.
        since: Step of the last row of the history.
        seconds: What the run has taken so far.
        row_seconds: What the steps since the last row have taken.
    """

    step: int = 0
    since: int = 0
    seconds: float = 0.0
    row_seconds: float = 0.0

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
        return {
            **captured(at, self._accelerator, version=_FORMAT),
            "objective": self._objective.own_state(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> Standing:
        """Be as at the moment of `capture`, and say which it was.

        Raises:
            ConfigError: Saved by another number of processes: batches would be of another size.
            DataError: Of another format or another objective.
        """
        require_fit(state, self._accelerator, version=_FORMAT)
        try:
            self._objective.load_own_state(state["objective"])
            self._optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise DataError(f"does not fit the run's settings ({str(error).splitlines()[0]})") from error
        return restored(state, self._accelerator, Standing)
