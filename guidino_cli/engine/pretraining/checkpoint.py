"""State of a pretraining run: its progress, its part of a checkpoint, and the exported backbone."""

import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from guidino_cli.engine.checkpointing import RunState
from guidino_cli.errors import ResourceError
from guidino_cli.files import write_atomically, write_text
from guidino_cli.models.pretrained.catalogue import licence_note
from guidino_cli.models.pretrained.saving import write_preprocessor_config
from guidino_cli.models.pretrained.strict_loading import hash_weights
from guidino_cli.ssl.networks import TokenEncoder
from guidino_cli.ssl.objective import PretrainObjective

# 2: masks and warm-up of DINOv3's code; a state of format 1 would go on with other masks and rates than it began with.
CHECKPOINT_FORMAT = 2


@dataclass
class PretrainState(RunState):
    """Progress of a pretraining run.

    Attributes:
        step: Finished optimization steps.
        since: Step of the last row of the history.
        seconds: Duration of the run up to that row.
        row_seconds: Duration of the steps since.
    """

    step: int = 0
    since: int = 0
    seconds: float = 0.0
    row_seconds: float = 0.0

    def begin_row(self) -> None:
        """Start the next row of the history."""
        self.since, self.sums, self.row_seconds = self.step, {}, 0.0


class ObjectiveState:
    """The tensors of an objective that a checkpoint holds."""

    def __init__(self, objective: PretrainObjective) -> None:
        self._objective = objective

    def state_dict(self) -> dict[str, Tensor]:
        """See `PretrainObjective.own_state`."""
        return self._objective.own_state()

    def load_state_dict(self, state_dict: dict[str, Tensor], /) -> None:
        """See `PretrainObjective.load_own_state`."""
        self._objective.load_own_state(state_dict)


def save_backbone(encoder: TokenEncoder, folder: Path, *, identity: dict[str, str]) -> str:
    """Write an encoder to a folder in Hugging Face layout, its weights last; other files of the folder stay.

    Args:
        encoder: A transformers network with its input normalisation.
        folder: Folder of the run.
        identity: Source of the initial weights, for the licence notice.

    Returns:
        SHA-256 of the weights, as runs record it.

    Raises:
        ResourceError: The disk is full or the folder cannot be written.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    temporary = folder / f".backbone.{os.getpid()}"
    try:
        encoder.network.save_pretrained(temporary)
        write_preprocessor_config(temporary, *(values.flatten().tolist() for values in (encoder.mean, encoder.std)))
        write_text(folder / "NOTICE.md", licence_note(identity))
        # safetensors makes files readable by their owner only; a backbone is meant to be shared.
        mode = (temporary / "config.json").stat().st_mode
        # Weights last: a folder that has them is complete.
        for file in sorted(temporary.iterdir(), key=lambda path: path.suffix == ".safetensors"):
            file.chmod(mode)
            write_atomically(folder / file.name, partial(os.replace, file))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(f"{folder}: cannot be written ({reason}); free some space, then --resume") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return hash_weights(encoder.network)
