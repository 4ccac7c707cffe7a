"""State of a training run: its progress, and how model and gradient scaler are kept in a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accelerate import Accelerator
from torch import Tensor

from guidino_cli.engine.checkpointing import RunState
from guidino_cli.engine.runs.best import trained_state_dict
from guidino_cli.errors import DataError
from guidino_cli.models.composed import Model

CHECKPOINT_FORMAT = 2


@dataclass
class TrainState(RunState):
    """Progress of a training run.

    Attributes:
        epoch: Finished epochs.
        step: Finished batches of the current epoch, on each process.
        rates: Learning rates at the start of the current epoch.
        seconds: Duration of those batches.
        best_dice: Highest validation Dice; -1 before the first validation.
        best_epoch: Its epoch, from 1; 0 before the first validation.
    """

    epoch: int = 0
    step: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    best_dice: float = -1.0
    best_epoch: int = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the values of a batch, and count it."""
        super().add(values)
        self.step += 1

    def finish_epoch(self) -> None:
        """Move to the start of the next epoch."""
        self.epoch, self.step, self.rates, self.sums, self.seconds = self.epoch + 1, 0, {}, {}, 0.0


class TrainedWeights:
    """The weights of a model that a checkpoint holds: all but the pretrained ones of a frozen backbone."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def state_dict(self) -> dict[str, Tensor]:
        """See `trained_state_dict`."""
        return trained_state_dict(self._model)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], /) -> None:
        """Fill the model; `DataError` if the names differ."""
        unmatched = set(state_dict) ^ set(self.state_dict())
        if unmatched:
            raise DataError(f"does not fit the model ({len(unmatched)} tensors, {min(unmatched)})")
        self._model.load_state_dict(state_dict, strict=False)


class ScalerState:
    """State of the gradient scaler; empty without one."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._scaler = accelerator.scaler

    def state_dict(self) -> dict[str, Any]:
        """torch's state of the scaler; {} without one."""
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Do nothing where the run had no scaler, or has none now."""
        if self._scaler is not None and state_dict:
            self._scaler.load_state_dict(state_dict)
