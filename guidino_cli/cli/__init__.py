"""The Typer application of all commands, and `main`, which turns errors into one line and an exit code."""

import os
import shlex
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from guidino_cli import __version__
from guidino_cli.cli import (
    bench,
    data,
    drift,
    fewshot,
    prediction,
    pretraining,
    probing,
    registration,
    scoring,
    tools,
    training,
)
from guidino_cli.cli.usage import SettingsCommand, UsageError, describe_usage_error, is_help
from guidino_cli.cli.workers import describe_rank, exit_immediately, is_worker_process
from guidino_cli.errors import (
    EXIT_CODES,
    LOST_RANK_CODE,
    ConfigError,
    ResourceError,
    UserError,
    as_user_error,
    first_line,
    is_lost_rank,
    to_one_line,
)
from guidino_cli.processes import die_with_parent, has_launcher, keep_hub_quiet, use_passive_threads

_HELP = """Segment medical images, guided by a frozen vision foundation model.

\b
Example: guidino prepare Kvasir-SEG -o data/kvasir --classes background,polyp
         guidino train --preset own-unet --data data/kvasir -o runs/kvasir
         guidino predict runs/kvasir new-images/ -o masks/
"""
# \b keeps the lines of its paragraph from being joined.
_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())

# What shells report of a process that SIGPIPE ended.
_BROKEN_PIPE = 141

app = typer.Typer(
    help=_HELP,
    epilog=_EPILOG,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; a `UserError` becomes one line on stderr and its exit code."""
    die_with_parent()
    use_passive_threads()
    keep_hub_quiet()
    # Python has no streams where the caller closed them (`>&-`).
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # In an ASCII locale, printing a report must not raise UnicodeEncodeError.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        _run()
    except SystemExit as stop:
        if is_worker_process():
            exit_immediately(stop.code if isinstance(stop.code, int) else int(stop.code is not None))
        raise
    except Exception as error:
        if os.environ.get("GUIDINO_DEBUG"):
            raise
        if is_worker_process() and is_lost_rank(error):
            _leave_lost_rank(error)
        known = as_user_error(error)
        code = 1 if known is None else known.exit_code
        bug = f"{type(error).__name__}: {error} (a bug: please report it with the output of GUIDINO_DEBUG=1)"
        # What another rank did not meet: the data and settings are the same for all.
        who = describe_rank() if known is None or isinstance(known, ResourceError) else ""
        _complain(f"guidino: {who}{to_one_line(bug if known is None else _with_command(known))}")
        if is_worker_process():
            exit_immediately(code)
        _discard_output()
        sys.exit(code)


def _leave_lost_rank(error: Exception) -> NoReturn:
    """End after the loss of another rank; guidino's own launcher states the cause, torchrun does not."""
    if not has_launcher():
        lost = f"lost another rank, which ended or does not answer ({first_line(error)}); resume with --resume"
        _complain(f"guidino: {describe_rank()}{to_one_line(lost)}")
    exit_immediately(LOST_RANK_CODE)


def _with_command(error: UserError) -> str:
    """The message of an error, and the command to type instead if one more option is all that it takes."""
    if not error.option:
        return str(error)
    return f"{error}; type: {shlex.join(['guidino', *sys.argv[1:], *shlex.split(error.option)])}"


def _run() -> None:
    """Run the command line; output that nobody reads any more (`| head`) ends it with 141, as SIGPIPE does."""
    try:
        try:
            # In standalone mode, usage errors would be printed on several lines.
            code = app(prog_name="guidino", standalone_mode=False)
        except UsageError as error:
            if is_help(error):
                error.show()
                sys.exit(2)
            raise ConfigError(describe_usage_error(error)) from error
        except SystemExit as stop:
            # typer answers a closed pipe with exit code 1, which is that of a bug.
            if isinstance(stop.__context__, BrokenPipeError):
                raise stop.__context__ from None
            raise
        sys.stdout.flush()
        sys.exit(code or 0)
    except BrokenPipeError:
        _discard_output()
        sys.exit(_BROKEN_PIPE)


def _complain(message: str) -> None:
    """Print to stderr; if stderr is closed, the exit code must suffice."""
    with suppress(OSError, ValueError):
        print(message, file=sys.stderr, flush=True)


def _discard_output() -> None:
    """Send what is still buffered nowhere: Python would write it at exit, fail again and change the exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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


app.command(short_help="Check image-mask pairs; write masks, splits, cases.json.")(data.prepare)
app.command(short_help="List masks that are probably wrong, worst first.")(data.audit)
app.command(short_help="Propose a preset for a data set by nnU-Net's rules.")(data.plan)
app.command(short_help="List the DICOM series of a folder and their faults.")(data.dicom)
app.command(cls=SettingsCommand, short_help="Train a network, guided or plain.")(training.train)
app.command(cls=SettingsCommand, short_help="Make a run from a few labelled images in seconds.")(fewshot.fewshot)
app.command("next-to-label", short_help="List images on which a fewshot run is least certain.")(fewshot.next_to_label)
app.command("lora-tune", cls=SettingsCommand, short_help="Adapt the backbone of a trained run by LoRA.")(
    training.lora_tune
)
app.command(cls=SettingsCommand, short_help="Pretrain a backbone on unlabelled images.")(pretraining.pretrain)
app.command(short_help="Cut CT or MR volumes into slices to pretrain on.")(pretraining.slices)
app.command(cls=SettingsCommand, short_help="Segment images with a trained run.")(prediction.predict)
app.command("tune-post", cls=SettingsCommand, short_help="Choose post-processing on the validation cases.")(
    prediction.tune_post
)
app.command(short_help="Measure how new images differ from a run's own.")(drift.drift)
app.command("tune-risk", cls=SettingsCommand, short_help="Fit expected Dice and bounded masks on validation cases.")(
    prediction.tune_risk
)
app.command(short_help="Score masks against the truth: IoU, Dice, HD95.")(scoring.evaluate)
app.command(short_help="Compare sets of masks case by case, with tests.")(scoring.compare)
app.command(short_help="Write a one-page report of runs, scores and guides.")(scoring.report)
app.command(short_help="Write frozen features of images, once, for probe.")(probing.features)
app.add_typer(probing.app, name="probe", short_help="Classify by frozen features, with controls.")
app.command("visualize-guide", cls=SettingsCommand, short_help="Draw a run's guide, or what a backbone sees.")(
    prediction.visualize_guide
)
app.command(cls=registration.RegisterCommand, short_help="Register images or volumes: field, warped image, scores.")(
    registration.register
)
app.command(short_help="Compare backbones on tasks in one table, with controls.")(bench.bench)
app.command(short_help="List the presets, or print one.")(training.presets)
app.command(short_help="List all settings with their meaning.")(training.settings)
app.command(short_help="List the segmentation networks, or describe some.")(tools.models)
app.command(short_help="Check this installation.")(tools.doctor)
app.command(short_help="Write the example data and scripts.")(tools.example)
app.command(short_help="Write a run's network as one file for torch or ONNX.")(tools.export)
app.command(short_help="Write a run as a folder to share, with a model card.")(tools.card)
app.add_typer(tools.app, name="weights", short_help="Find, import, verify and download pretrained backbones.")
