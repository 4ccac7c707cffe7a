"""What the states of all runs have in common: where a run stands, its random numbers, and whom a state fits."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from guidino_cli.engine.random_state import random_state, set_random_state
from guidino_cli.errors import ConfigError, DataError


@dataclass
class Place:
    """Where a run stands.

    Attributes:
        sums: Every term of the loss and every figure, summed over the batches since the last row of the history.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Count in what a batch has shown."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()


P = TypeVar("P", bound=Place)


def captured(at: Place, accelerator: Accelerator, *, version: int) -> dict[str, Any]:
    """Tensors and plain values, between two steps of the optimiser; every process must call it."""
    # Each process's own: their mean would have the row that is under way end in other digits.
    sums = {name: accelerator.gather(value) for name, value in at.sums.items()}
    return {
        "format": version,
        "processes": accelerator.num_processes,
        "random": gather_object([random_state(accelerator.device)]),
        **asdict(at),
        "sums": sums,
    }


def require_fit(state: Mapping[str, Any], accelerator: Accelerator, *, version: int) -> None:
    """Check that a run can go on from what `captured` made.

    Raises:
        ConfigError: Saved by another number of processes: batches would be of another size.
        DataError: Of another format.
    """
    if state.get("format") != version:
        raise DataError("written by another version of guidino; go on with that one, or begin anew")
    if state["processes"] != accelerator.num_processes:
        raise ConfigError(
            f"saved by {state['processes']} processes, but now there are {accelerator.num_processes}; "
            "go on with as many as before"
        )


def restored(state: Mapping[str, Any], accelerator: Accelerator, kind: type[P]) -> P:
    """Where the run stood at the moment of `captured`; from here on, its random numbers are drawn."""
    set_random_state(state["random"][accelerator.process_index], accelerator.device)
    at = kind(**{item.name: state[item.name] for item in fields(kind)})
    own = {name: value[accelerator.process_index] if value.ndim else value for name, value in at.sums.items()}
    at.sums = {name: value.to(accelerator.device) for name, value in own.items()}
    return at
