"""Options of `bench`: type, help text and default of each, in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.options.shared import Device, Offline


@dataclass(frozen=True)
class BenchOptions:
    """Which cells of a recipe are computed, and where."""

    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the table and of all cells.")]
    data_root: Annotated[
        Path | None,
        typer.Option(
            "--data-root",
            metavar="DIR",
            help="Folder that data of the recipe are in; default: that of the recipe, of a packaged one the current.",
        ),
    ] = None
    only: Annotated[
        str | None, typer.Option(metavar="TASK,TASK", help="Compute these tasks; the table has what others have.")
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the recipe, list its cells and what of them exists, stop.")
    ] = False
    device: Device = None
    as_json: Annotated[bool, typer.Option("--json", help="Print bench.json instead of a table.")] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove what -o holds, and begin anew.")] = False
    offline: Offline = False
