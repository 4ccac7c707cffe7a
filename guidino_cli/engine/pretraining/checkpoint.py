"""Checkpoints of a pretraining run: what they hold, when they are saved, and the exported backbone."""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState
from torch.optim import Optimizer

from guidino_cli.distributed import run_on_main_process
from guidino_cli.engine.checkpointing import RunState, capture_run, require_resumable, restore_run
from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.errors import DataError, ResourceError, UserError
from guidino_cli.files import write_atomically, write_text
from guidino_cli.models.pretrained.catalogue import licence_note
from guidino_cli.models.pretrained.saving import write_preprocessor_config
from guidino_cli.models.pretrained.strict_loading import hash_weights
from guidino_cli.ssl.networks import TokenEncoder
from guidino_cli.ssl.objective import PretrainObjective

_FORMAT = 1


@dataclass
class PretrainState(RunState):
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


class PretrainCheckpoint:
    """Everything of a run that changes with its steps; schedules are functions of the step alone.

    Args:
        accelerator: Of the run.
        objective: Without any wrapper.
        optimizer: As accelerate prepared it.
    """

    def __init__(self, accelerator: Accelerator, objective: PretrainObjective, optimizer: Optimizer) -> None:
        self._accelerator, self._objective, self._optimizer = accelerator, objective, optimizer

    def capture(self, at: PretrainState) -> dict[str, Any]:
        """Tensors and plain values, between two steps; every process must call it."""
        return {
            **capture_run(at, self._accelerator, version=_FORMAT),
            "objective": self._objective.own_state(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> PretrainState:
        """Be as at the moment of `capture`, and say which it was.

        Raises:
            ConfigError: Saved by another number of processes: batches would be of another size.
            DataError: Of another format or another objective.
        """
        require_resumable(state, self._accelerator, version=_FORMAT)
        try:
            self._objective.load_own_state(state["objective"])
            self._optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise DataError(f"does not fit the run's settings ({str(error).splitlines()[0]})") from error
        return restore_run(state, self._accelerator, PretrainState)


def save_backbone(network: Any, folder: Path, *, encoder: TokenEncoder, identity: dict[str, str]) -> str:
    """Put a network into a folder in Hugging Face layout, its weights last; other files of the folder stay.

    Args:
        network: Of transformers.
        folder: Of the run.
        encoder: Has the `mean` and `std` of its input normalisation.
        identity: Of the weights that the run began with, for the note on their licence.

    Returns:
        SHA-256 of the weights, as runs record it.

    Raises:
        ResourceError: The disk is full or the place cannot be written.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    temporary = folder / f".backbone.{os.getpid()}"
    try:
        network.save_pretrained(temporary)
        write_preprocessor_config(temporary, *(values.flatten().tolist() for values in (encoder.mean, encoder.std)))
        write_text(folder / "NOTICE.md", licence_note(identity))
        # safetensors writes files that only their owner may read; a backbone is there to be shared.
        mode = (temporary / "config.json").stat().st_mode
        # A folder with weights is a whole one: they come last.
        for file in sorted(temporary.iterdir(), key=lambda path: path.suffix == ".safetensors"):
            file.chmod(mode)
            write_atomically(folder / file.name, partial(os.replace, file))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(f"{folder}: cannot be written ({reason}); free some space, then --resume") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return hash_weights(network)


class CheckpointManager:
    """Saves a run, and goes on with a saved one.

    Args:
        checkpoint: Of the run.
        folder: Receives the state.
        steps: Of the whole run.
        minutes: Between two states; 0 for no other than those that are asked for.

    Attributes:
        saved: Finished steps of the newest state, or None before the first.
    """

    def __init__(self, checkpoint: PretrainCheckpoint, folder: PretrainFolder, *, steps: int, minutes: float) -> None:
        self._checkpoint, self._folder, self._steps, self._seconds = checkpoint, folder, steps, 60 * minutes
        self.saved: int | None = None
        self._saved_at = time.monotonic()

    def save(self, at: PretrainState) -> None:
        """Write the state; every process must call it."""
        state = self._checkpoint.capture(at)
        run_on_main_process(lambda: self._folder.save_state(state))
        self.saved, self._saved_at = at.step, time.monotonic()

    def restore(self) -> PretrainState:
        """Be as the newest state says; the errors are those of `Checkpoint.restore`, with the file's name."""
        try:
            at = self._checkpoint.restore(self._folder.load_state())
        except UserError as error:
            raise type(error)(f"{self._folder.state}: {error}") from error
        self.saved = at.step
        return at

    def is_due(self) -> bool:
        """Whether the last state is old enough; the main process says so."""
        return PartialState().is_main_process and time.monotonic() - self._saved_at >= self._seconds > 0

    def kept(self) -> str:
        """Which step could be gone on from."""
        return f"step {self.saved} of {self._steps}" if self.saved else "the beginning"

    def way_on(self) -> str:
        """The same, with the command that goes on."""
        return f"{self.kept()} is saved, go on with: guidino pretrain --resume -o {self._folder.path}"
