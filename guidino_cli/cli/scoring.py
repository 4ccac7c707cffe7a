"""The commands `guidino evaluate` and `guidino compare`."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.options.evaluation import CompareOptions, EvaluateOptions


@expand_dataclasses
def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PREDS", help="Folder of predicted masks, or one mask.")],
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help="Folder of true masks, one mask, or a prepared DATA folder.")
    ],
    options: EvaluateOptions,
) -> None:
    """Score predicted masks against the truth: IoU, Dice, HD95 per case and overall.

    Example: guidino evaluate masks/ DATA -o report/ --min-dice 0.85
    """
    from guidino_cli.commands import evaluate as command

    command.run(predictions, truth, options)


@expand_dataclasses
def compare(
    predictions: Annotated[list[Path], typer.Argument(metavar="PREDS", help="Two or more folders of masks.")],
    truth: Annotated[Path, typer.Option(metavar="TRUTH", help="Folder of true masks, or a prepared DATA folder.")],
    options: CompareOptions,
) -> None:
    """Compare sets of predictions case by case: differences, intervals, signed-rank tests and a plot.

    Example: guidino compare masks/plain masks/guided --truth DATA -o comparison/
    """
    from guidino_cli.commands import compare as command

    command.run(predictions, truth, options)
