"""The command line: words become values in the modules beside this one; errors become one line and an exit code."""

import os
import sys
from typing import Annotated

import typer

from guidino_cli import __version__
from guidino_cli.cli import data, prediction, pretraining, scoring, tools, training, weights
from guidino_cli.cli.processes import is_launched, leave_at_once
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
    # Threads that wait for each other by spinning make torch ten times slower on a CPU that has other work too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Nothing is reported to anyone: libraries below honour these.
    for name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ[name] = "1"
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
        if is_launched():
            leave_at_once(code)
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


app.command()(data.prepare)
app.command()(data.plan)
app.command()(training.train)
app.command("lora-tune")(training.lora_tune)
app.command()(pretraining.pretrain)
app.command()(pretraining.slices)
app.command()(prediction.predict)
app.command("tune-post")(prediction.tune_post)
app.command()(scoring.evaluate)
app.command()(scoring.compare)
app.command("visualize-guide")(prediction.visualize_guide)
app.command()(training.presets)
app.command()(tools.models)
app.command()(tools.doctor)
app.command()(tools.export)
app.add_typer(weights.app, name="weights")
