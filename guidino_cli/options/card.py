"""Options of `card`: type, help text and default of each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.options.shared import Overwrite


@dataclass(frozen=True)
class ShareOptions:
    """What the card says in addition to what the run recorded, and where the folder is written."""

    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write, with model.safetensors and README.md.")]
    scores: Annotated[
        list[Path] | None, typer.Option(metavar="REPORT", help="Folder of `guidino evaluate`; repeatable.")
    ] = None
    name: Annotated[str | None, typer.Option(help="Title of the card; default: the name of RUN.")] = None
    dataset: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Where the training data is from, and under which terms.")
    ] = None
    license: Annotated[
        str | None, typer.Option(metavar="ID", help="Licence of your weights, such as apache-2.0 or cc-by-nc-4.0.")
    ] = None
    license_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Licence text, written as LICENSE into the folder.")
    ] = None
    push: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="Upload to this model of the Hugging Face hub.")
    ] = None
    public: Annotated[bool, typer.Option("--public", help="With --push: a new model is public, not private.")] = False
    overwrite: Overwrite = False
