"""The commands: words become values here, and errors become one line and an exit code."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli import __version__
from guidino_cli.errors import EXIT_CODES, UserError

_EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

app = typer.Typer(
    help="Medical image segmentation guided by a frozen vision foundation model.",
    epilog=_EPILOG,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; a `UserError` becomes one line on stderr and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # An ASCII locale must not turn a report into a UnicodeEncodeError.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="guidino")
    except Exception as error:
        if os.environ.get("GUIDINO_DEBUG"):
            raise
        code = error.exit_code if isinstance(error, UserError) else 1
        hint = "" if isinstance(error, UserError) else " (a bug: please report it with the output of GUIDINO_DEBUG=1)"
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        print(f"guidino: {kind}{error}{hint}", file=sys.stderr)
        sys.exit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"guidino {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PREDS", help="Folder of predicted masks, or one mask.")],
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help="Folder of true masks, one mask, or a prepared DATA folder.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the report files.")] = None,
    split: Annotated[str, typer.Option(help="Split of a prepared DATA folder: train, val, test or all.")] = "test",
    metrics: Annotated[str, typer.Option(help="Figures, by comma: iou, dice, hd95, assd, ...")] = "iou,dice,hd95",
    hd95: Annotated[
        str | None, typer.Option(help="Definition of HD95: pooled (medpy; the default) or max (MONAI).")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="Rules for empty and missing masks: guidino, nnunet, monai or guidino-paper.")
    ] = "guidino",
    spacing: Annotated[str | None, typer.Option(help="Pixel size in mm along rows,columns; else px.")] = None,
    tolerance: Annotated[float, typer.Option(help="Tolerance of the NSD, in the unit of the distances.")] = 2.0,
    resample: Annotated[
        str | None, typer.Option(help="'nearest' fits predictions of another size to the truth; else they fail.")
    ] = None,
    pairs: Annotated[Path | None, typer.Option(help="CSV with columns prediction,truth instead of names.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Write into a folder that is not empty.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")] = False,
) -> None:
    """Score predicted masks against the truth: IoU, Dice, HD95 per case and overall.

    Example: guidino evaluate masks/ DATA -o report/
    """
    from guidino_cli.commands import evaluate as command

    command.run(
        predictions,
        truth,
        out=out,
        split=split,
        metrics=metrics,
        hd95=hd95,
        policy=policy,
        spacing=spacing,
        tolerance=tolerance,
        resample=resample,
        pairs=pairs,
        overwrite=overwrite,
        as_json=as_json,
    )
