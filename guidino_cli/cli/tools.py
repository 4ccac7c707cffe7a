"""What the user types to check an installation, to look at networks, and to take a model out of it."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.options import Offline


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    self_test: Annotated[bool, typer.Option(help="Train, predict and evaluate on made-up images.")] = True,
) -> None:
    """Check this installation: versions, devices, memory, weights, extras, places to write, and a short self-test.

    Ends with 0 if all that guidino needs is there, else with the code of the first thing that is not.

    Example: guidino doctor
    """
    from guidino_cli.commands import doctor as command

    command.run(as_json=as_json, self_test=self_test)


def models(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Networks to describe.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Add multiply-adds, and memory and seconds of a training step.")
    ] = False,
    size: Annotated[int, typer.Option(min=16, help="Side in pixels of the image that is measured.")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print paragraphs instead of a table.")] = False,
) -> None:
    """List the segmentation networks, or describe some: paper, weights, where a guide can act, options, presets.

    Example: guidino models nnwnet --measure
    """
    from guidino_cli.commands import models as command

    forms = {"json": as_json, "csv": as_csv, "markdown": as_markdown}
    form = next((name for name, wanted in forms.items() if wanted), "table")
    command.run(names or [], measure=measure, side=size, form=form)


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write: .pt2 (torch.export) or .onnx.")],
    batch: Annotated[int, typer.Option(min=1, help="Images the file takes at once.")] = 1,
    tolerance: Annotated[float, typer.Option(min=0, help="Largest difference from the run that is let pass.")] = 1e-4,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    offline: Offline = False,
) -> None:
    """Write a run's network as one file for torch or ONNX Runtime, compared with the run before it is kept.

    It takes one window of the run's size; FILE.json says how to prepare it. Mirroring and windows are the caller's.

    Example: guidino export runs/kvasir -o kvasir.onnx
    """
    from guidino_cli.commands import export as command

    command.run(run, out=out, batch=batch, tolerance=tolerance, overwrite=overwrite, offline=offline)
