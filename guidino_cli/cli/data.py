"""Command line of `guidino prepare` and `guidino plan`."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.options.data import PlanOptions, PrepareOptions


@expand_dataclasses
def prepare(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of images and masks, or a CSV of pairs.")],
    options: PrepareOptions,
) -> None:
    """Check image-mask pairs and write class-index masks, splits, a contact sheet and cases.json.

    Example: guidino prepare Kvasir-SEG -o data/kvasir --classes background,polyp
    """
    from guidino_cli.commands import prepare as command

    command.run(source, options)


@expand_dataclasses
def plan(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder made by `guidino prepare`.")],
    options: PlanOptions,
) -> None:
    """Propose patch, batch, depth and schedule for a data set by nnU-Net's rules, as a preset to read and edit.

    Example: guidino plan data/kvasir -o kvasir-plan.yaml --gpu-gb 11
    """
    from guidino_cli.commands import plan as command

    command.run(data, options)
