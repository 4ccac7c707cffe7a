"""Options with the same name, type and help text in several commands, and the parser of `--shard`."""

import re
from typing import Annotated

import typer

from guidino_cli.errors import ConfigError

Device = Annotated[str | None, typer.Option(help="cpu or cuda; default: the best there is.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask a model hub.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")]
Split = Annotated[str, typer.Option(help="Split of a prepared DATA folder: train, val, test or all.")]
PredictOverrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="A setting, such as predict.mirror=false."),
]
Devices = Annotated[int | None, typer.Option(min=1, help="Processes on this machine, one device each, by torchrun.")]
Resume = Annotated[bool, typer.Option("--resume", help="Resume after the last saved step of -o.")]
OverwriteRun = Annotated[bool, typer.Option("--overwrite", help="Start again in a folder that is not empty.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the settings, stop.")]


def parse_shard(option: str, text: str) -> tuple[int, int]:
    """`2/8`, the second of eight shares, as 2 and 8.

    Raises:
        ConfigError: Not of this form, or no such share.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"{option} {text}: expected NUMBER/COUNT such as 2/8, the first is 1/8")
    return int(match[1]), int(match[2])
