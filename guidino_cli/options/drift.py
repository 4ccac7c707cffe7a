"""Options of `drift`: type, help text and default of each, in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.options.shared import Device, Overwrite, Split


@dataclass(frozen=True)
class DriftOptions:
    """Images to compare, and outputs."""

    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for images.csv and drift.json; default: print only.")
    ] = None
    split: Split = "test"
    max_distance: Annotated[
        float | None, typer.Option("--max", metavar="X", help="Fail (exit code 8) if the set's distance is larger: 1.")
    ] = None
    fit: Annotated[
        bool, typer.Option("--fit", help="Describe the run's images again; without IMAGES, do nothing else.")
    ] = False
    data: Annotated[
        Path | None,
        typer.Option("--data", "-d", help="For --fit: prepared folder, or folder of images; default: RUN's own."),
    ] = None
    show: Annotated[int, typer.Option(min=0, help="Number of images to print, the farthest first.")] = 10
    as_json: Annotated[bool, typer.Option("--json", help="Print drift.json instead of the table.")] = False
    device: Device = None
    overwrite: Overwrite = False
