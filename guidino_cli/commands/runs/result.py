"""`result.json` of a finished run: best score, epoch and time; written last, read without torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from guidino_cli.errors import DataError
from guidino_cli.files import write_text

FILE_NAME = "result.json"


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run that reached its last epoch.

    Attributes:
        val_dice: Mean Dice of the validation cases in the selected epoch; they are the cases that selected it.
        epoch: The selected epoch, counted from 1.
        epochs: How many there were.
        seconds: Time in epochs, training and validation, without what an interruption threw away.
    """

    val_dice: float
    epoch: int
    epochs: int
    seconds: float


def write_result(folder: Path, result: RunResult) -> None:
    """Mark a run as finished."""
    write_text(folder / FILE_NAME, json.dumps(asdict(result), indent=2) + "\n")


def read_result(folder: Path) -> RunResult | None:
    """The outcome of a run, None if it is not finished.

    Raises:
        DataError: The file is damaged.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        return RunResult(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); remove it and go on with `guidino train --resume`") from error
