"""Options that several commands share, so that they read and mean the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str | None, typer.Option(help="cpu or cuda; default: the best there is.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask a model hub.")]
Seeds = Annotated[str | None, typer.Option(help="Several runs in -o, a seed each: how many (3), or which (0,1,2).")]
Folds = Annotated[str | None, typer.Option(help="Several runs in -o, a fold of the data each: how many, or which.")]
Devices = Annotated[int | None, typer.Option(min=1, help="Processes on this machine, a device each, by torchrun.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on behind the last saved step of -o.")]
StartAnew = Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that is not empty.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the settings, stop.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")]
Split = Annotated[str, typer.Option(help="Split of a prepared DATA folder: train, val, test or all.")]
ReportOut = Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the report files.")]
BootstrapSeed = Annotated[int, typer.Option(help="Of the bootstrap.")]
PredictOverrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="A setting, such as predict.mirror=false."),
]
Group = Annotated[
    str | None,
    typer.Option(help="What the interval draws together (patients): a column, TABLE.csv:COLUMN, or a pattern."),
]
