"""Options with the same name, type and help text in several commands."""

from typing import Annotated

import typer

from guidino_cli.options.completion import complete_setting
from guidino_cli.processes import forbid_hub


def _apply_offline(is_offline: bool) -> bool:
    if is_offline:
        forbid_hub()
    return is_offline


Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; default: the best available.")]
Offline = Annotated[bool, typer.Option("--offline", callback=_apply_offline, help="Never contact a model hub.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")]
Split = Annotated[str, typer.Option(help="Split of a prepared DATA folder: train, val, test or all.")]
PredictOverrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="A setting, such as predict.mirror=false.",
        autocompletion=complete_setting,
    ),
]
Series = Annotated[
    str | None,
    typer.Option(help="DICOM: the series to use, by a part of its description or by its key; one per channel."),
]
Orientation = Annotated[
    str | None, typer.Option(help="Volumes: orientation of the axes if the header states none, such as RAS.")
]
IgnoreHeaders = Annotated[
    bool,
    typer.Option("--ignore-headers", help="Volumes: take channels voxel by voxel, wherever headers place them."),
]
Devices = Annotated[int | None, typer.Option(min=1, help="Processes on this machine, one device each, by torchrun.")]
Resume = Annotated[bool, typer.Option("--resume", help="Resume after the last saved step of -o.")]
OverwriteRun = Annotated[bool, typer.Option("--overwrite", help="Start again in a folder that is not empty.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the settings, stop.")]
