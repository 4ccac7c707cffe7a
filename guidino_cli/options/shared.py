"""Options with the same name, type and help text in several commands."""

from typing import Annotated

import typer

from guidino_cli.options.completion import complete_setting
from guidino_cli.processes import forbid_hub


def _apply_offline(is_offline: bool) -> bool:
    if is_offline:
        forbid_hub()
    return is_offline


Device = Annotated[str | None, typer.Option(help="cpu or cuda; default: the best there is.")]
Offline = Annotated[bool, typer.Option("--offline", callback=_apply_offline, help="Never ask a model hub.")]
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
    typer.Option(help="DICOM: the series to take, by a part of its description or by its key; one a channel."),
]
Orientation = Annotated[
    str | None, typer.Option(help="Volumes: where the axes point if the header does not tell, such as RAS.")
]
IgnoreHeaders = Annotated[
    bool,
    typer.Option("--ignore-headers", help="Volumes: take channels voxel by voxel, wherever headers place them."),
]
Devices = Annotated[int | None, typer.Option(min=1, help="Processes on this machine, one device each, by torchrun.")]
Resume = Annotated[bool, typer.Option("--resume", help="Resume after the last saved step of -o.")]
OverwriteRun = Annotated[bool, typer.Option("--overwrite", help="Start again in a folder that is not empty.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the settings, stop.")]
