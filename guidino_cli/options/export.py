"""Options of `export`: type, help text and default of each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.options.shared import Offline


@dataclass(frozen=True)
class ExportOptions:
    """Where a run's network is written, and in which form."""

    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .pt2 (torch.export) or .onnx; or a folder.")]
    monai_bundle: Annotated[
        bool, typer.Option("--monai-bundle", help="Write the folder of a MONAI bundle instead of a file.")
    ] = False
    openvino: Annotated[
        bool,
        typer.Option(
            "--openvino",
            help="Write a folder that predict takes as a run; OpenVINO runs its network on CPUs (pip install "
            "'guidino[openvino]').",
        ),
    ] = False
    int8: Annotated[
        bool, typer.Option("--int8", help="With --openvino: quantise to 8 bits, if the Dice hardly falls.")
    ] = False
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="With --int8: prepared folder; ranges are those of its training images, the Dice of its validation "
            "cases decides.",
        ),
    ] = None
    max_drop: Annotated[
        float | None,
        typer.Option(metavar="DICE", help="With --int8: largest accepted fall of the mean Dice.  [default: 0.005]"),
    ] = None
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Take only batches of this size; default: any, and of a bundle 1."),
    ] = None
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Largest accepted difference from the run; default: 1e-4, and 1e-3 if the guide's logit is used.",
        ),
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file or folder.")] = False
    offline: Offline = False
