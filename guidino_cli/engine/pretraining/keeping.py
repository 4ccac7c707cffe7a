"""When the state of a pretraining run is saved, and what of it is on the disk, in words."""

import time

from accelerate import PartialState

from guidino_cli.engine.pretraining.checkpoint import Checkpoint, Standing
from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.engine.training.agreement import on_main
from guidino_cli.errors import UserError


class Keeper:
    """Saves a run, and goes on with a saved one.

    Args:
        checkpoint: Of the run.
        folder: Receives the state.
        steps: Of the whole run.
        minutes: Between two states; 0 for no other than those that are asked for.

    Attributes:
        saved: Finished steps of the newest state, or None before the first.
    """

    def __init__(self, checkpoint: Checkpoint, folder: PretrainFolder, *, steps: int, minutes: float) -> None:
        self._checkpoint, self._folder, self._steps, self._seconds = checkpoint, folder, steps, 60 * minutes
        self.saved: int | None = None
        self._saved_at = time.monotonic()

    def save(self, at: Standing) -> None:
        """Write the state; every process must call it."""
        state = self._checkpoint.capture(at)
        on_main(lambda: self._folder.save_state(state))
        self.saved, self._saved_at = at.step, time.monotonic()

    def restore(self) -> Standing:
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
