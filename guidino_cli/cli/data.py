"""Command line of `guidino prepare`, `guidino audit`, `guidino plan` and `guidino dicom`."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.options.data import AuditOptions, PlanOptions, PrepareOptions


@expand_dataclasses
def prepare(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of images or volumes with masks, or a CSV.")],
    options: PrepareOptions,
) -> None:
    """Check images or volumes and their masks; write class-index masks, splits, a contact sheet and cases.json.

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


def dicom(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of DICOM files, in folders below it too.")],
    allow_single: Annotated[bool, typer.Option("--allow-single", help="Take a single slice for a volume.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """List the DICOM series of a folder: what they are, their size and spacing, and why some are no volumes.

    A series is named by its key, a hash of its UID; nothing that is printed names a patient.

    Example: guidino dicom archive/
    """
    from guidino_cli.commands import dicom as command

    command.run(folder, allow_single=allow_single, as_json=as_json)
