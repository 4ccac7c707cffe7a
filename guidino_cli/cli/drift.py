"""The command `guidino drift`."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.cli.run_checks import check_runs
from guidino_cli.options.completion import complete_run
from guidino_cli.options.drift import DriftOptions


@expand_dataclasses
def drift(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.", autocompletion=complete_run)],
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGES", help="Images, folders of them, or a prepared DATA folder."),
    ] = None,
    *,
    options: DriftOptions,
) -> None:
    """Measure how new images differ from a run's training images: another centre or device, blur, compression.

    95 % of held-out images, or of sets of them, have a distance below 1. The statistics of the run's images are
    made once, when they are first needed or by --fit, and stay in RUN/drift.safetensors.

    Example: guidino drift runs/kvasir new-images/ -o drift/ --max 1
    """
    check_runs([run])
    from guidino_cli.commands import drift as command

    command.run(run, images or [], options)
