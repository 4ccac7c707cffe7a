"""Command line of `guidino prepare`, `guidino audit` and `guidino plan`."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.options.data import AuditOptions, PlanOptions, PrepareOptions


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
def audit(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder made by `guidino prepare`.")],
    options: AuditOptions,
) -> None:
    """List masks that are probably wrong, worst first: empty, inverted, of another image, outliers, stray classes.

    Each mask is compared with the other masks, and with its image: features of a frozen backbone are scored by a
    regression fitted on the other images and their masks, which needs no training. Look at the first tenth of the list.

    Example: guidino audit data/kvasir -o audit/
    """
    from guidino_cli.commands import audit as command

    command.run(data, options)


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
