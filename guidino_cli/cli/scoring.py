"""The commands `guidino evaluate`, `guidino compare` and `guidino report`."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.options.completion import complete_reported
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


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN [EVALUATION]...",
            help="Run folders, with folders of evaluate -o and of visualize-guide -o, in any order.",
            autocompletion=complete_reported,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="PAGE.html", help="Page to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page.")] = False,
) -> None:
    """Write one page about runs: scores, tests, worst cases, curves, guide, data, settings, environment.

    It is a single file, opens offline and prints well. Of several evaluations of the same cases, each
    pair is compared case by case, as `compare` does.

    Example: guidino report runs/plain runs/guided report-plain/ report-guided/ -o report.html
    """
    from guidino_cli.commands import report as command

    command.run(folders, out, overwrite=overwrite)
