"""`result.json` of a finished run: best score, epoch and time; written last, read without torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from guidino_cli.files import write_text
from guidino_cli.json_files import read_record
from guidino_cli.progress import pluralize

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class RunResult:
    """Result of a run that reached its last epoch, or stopped early.

    Attributes:
        val_dice: Mean Dice of the validation cases in the best epoch, which they selected.
        epoch: Best epoch, counted from 1.
        epochs: Number of epochs that it was trained for.
        seconds: Duration of training and validation, without epochs that an interruption discarded.
        val_empty: Number of validation cases without foreground.
        stopped_early: Whether `train.patience` ended it before its last epoch.
    """

    val_dice: float
    epoch: int
    epochs: int
    seconds: float
    val_empty: int = 0
    stopped_early: bool = False

    @property
    def score(self) -> str:
        """The best score in words, with the number of empty cases that count 1 where nothing is predicted."""
        empty = f"; {pluralize(self.val_empty, 'val case')} without foreground" if self.val_empty else ""
        if self.val_dice == 0 and not self.val_empty:
            advice = "train longer, or look at validation.png and at the masks"
            return f"val Dice 0.0000 in every epoch: no prediction overlaps a true mask; {advice}"
        return f"best val Dice {self.val_dice:.4f} in epoch {self.epoch}{empty}"


def write_result(folder: Path, result: RunResult) -> None:
    """Mark a run as finished."""
    write_text(folder / RESULT_FILE, json.dumps(asdict(result), indent=2) + "\n")


def read_result(folder: Path) -> RunResult | None:
    """Read the result of a run, None if it is not finished.

    Raises:
        DataError: The file is damaged.
    """
    path = folder / RESULT_FILE
    if not path.is_file():
        return None
    return read_record(path, RunResult, hint="remove it and resume with `guidino train --resume`")
