"""Train the runs of a set, one process each, and print a table of their scores."""

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from guidino_cli.commands.run_sets.options import RunSetRequest, make_plan, require_matching_runs
from guidino_cli.commands.run_sets.plan import (
    SET_FILE,
    SETTINGS_FILE,
    TABLE_FILE,
    RunSetPlan,
    RunSetRow,
    collect_rows,
    origin_run,
    read_set_settings,
    save_run_set,
    summarize_scores,
)
from guidino_cli.commands.runs.launcher import run_in_subprocess
from guidino_cli.commands.runs.result import RESULT_FILE, read_result
from guidino_cli.engine.run_folders import lock_run_folder
from guidino_cli.errors import EXIT_CODES, ConfigError, PartialError, StoppedError
from guidino_cli.files import write_text
from guidino_cli.options.training import TrainOptions
from guidino_cli.progress import log_info

_CAVEATS = {
    "seed": "Scores of the best epoch, on the validation cases that selected it.",
    "fold": "Scores of the best epoch, on the fold that selected it, so they are optimistic.",
}


def print_table(plan: RunSetPlan, out: Path, rows: Sequence[RunSetRow]) -> None:
    """Print a row per run, mean and standard deviation, and the names of the files that hold them."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("run", "val Dice", "epoch", "of", "minutes"):
        table.add_column(title, justify="left" if title == "run" else "right")
    for row in rows:
        table.add_row(*_cells(row))
    Console(highlight=False).print(table)
    _print_summary(plan, rows)
    print(f"wrote {out / TABLE_FILE} and {out / SET_FILE}")


def _cells(row: RunSetRow) -> tuple[str, ...]:
    result = row.result
    if result is None:
        return row.run, "failed", "-", "-", "-"
    return row.run, f"{result.val_dice:.4f}", str(result.epoch), str(result.epochs), f"{result.seconds / 60:.1f}"


def _print_summary(plan: RunSetPlan, rows: Sequence[RunSetRow]) -> None:
    stats = summarize_scores(rows)
    if stats["mean"] is None:
        return
    spread = "" if stats["sd"] is None else f" +- {stats['sd']:.4f} (sample standard deviation)"
    count = f"{stats['runs']} of {stats['of']} runs" if stats["runs"] != stats["of"] else f"{stats['of']} runs"
    print(f"mean val Dice {stats['mean']:.4f}{spread} of {count}")
    print(f"from {stats['min']:.4f} to {stats['max']:.4f}")
    print(_CAVEATS[plan.over])
    if empty := [f"{row.run} {row.result.val_empty}" for row in rows if row.result and row.result.val_empty]:
        print(f"val cases without foreground, which count 1 if nothing is predicted: {', '.join(empty)}")


def failure_reason(code: int | None) -> str:
    """Why a run failed, from its exit code; None if it left no result."""
    if code is not None and code < 0:
        return f"killed by signal {-code}" + (", as the system does when memory runs out" if code == -9 else "")
    return f"exit code {code}: {EXIT_CODES.get(code or 0, 'unknown')}" if code else "left no result"


CommandRunner = Callable[[Sequence[str]], int]


def run(
    command: str, options: TrainOptions, *, base_run: Path | None = None, runner: CommandRunner = run_in_subprocess
) -> None:
    """Train every run of a set that is not finished.

    Args:
        command: "train" or "lora-tune".
        options: Options of the command.
        base_run: RUN of `lora-tune` or `train --from`.
        runner: Runs `guidino ARGV` and returns its exit code.

    Raises:
        ConfigError: Options that do not go together.
        DataError: The data has no such folds.
        PartialError: Some runs failed; the others are done.
    """
    out = options.out
    if out is None:
        raise ConfigError("--seeds and --folds need a folder for the runs: add -o OUT")
    plan, text = make_plan(RunSetRequest(command, options, base_run), out)
    if not options.overwrite:
        require_matching_runs(out, plan, text or read_set_settings(out))
    if options.dry_run:
        for value in plan.values:
            print(shlex.join(["guidino", *_argv(plan, out, value)]))
        return
    with lock_run_folder(out):
        if options.overwrite and not options.resume:
            _reset_runs(plan, out)
        if text is not None:
            write_text(out / SETTINGS_FILE, text)
        _run_all(plan, out, runner=runner)


def _reset_runs(plan: RunSetPlan, out: Path) -> None:
    """Remove the settings of an old set, and the files of its runs that a set would resume from; other files stay."""
    (out / SETTINGS_FILE).unlink(missing_ok=True)
    for value in plan.values:
        folder = out / plan.name(value)
        shutil.rmtree(folder / "last", ignore_errors=True)
        for name in (RESULT_FILE, "config.yaml"):
            (folder / name).unlink(missing_ok=True)


def _argv(plan: RunSetPlan, out: Path, value: int) -> list[str]:
    """Command line of a run, which is resumed if it has a state."""
    folder = out / plan.name(value)
    # A kill may leave an unfinished hidden file.
    if any(not path.name.startswith(".") for path in (folder / "last").glob("*")):
        return [plan.command, "--resume", "-o", str(folder), *plan.place]
    preset = ["--preset", str(out / SETTINGS_FILE)]
    origin = origin_run(plan, value)
    if origin is None:
        start = preset
    elif plan.command == "lora-tune":
        start = [str(origin)]
    else:
        start = [*(preset if (out / SETTINGS_FILE).is_file() else []), "--from", str(origin)]
    key = "seed" if plan.over == "seed" else "data.fold"
    # The folder belongs to this set: an attempt that left no state may be overwritten.
    return [
        plan.command, *start, *plan.settings, "--set", f"{key}={value}", *plan.place, "-o", str(folder), "--overwrite",
    ]  # fmt: skip


def _is_finished(plan: RunSetPlan, folder: Path) -> bool:
    merged = "--merge" not in plan.place or (folder / "merged" / "config.json").is_file()
    return read_result(folder) is not None and merged


def _run_all(plan: RunSetPlan, out: Path, *, runner: CommandRunner) -> None:
    codes: dict[int, int] = {}
    resume_command = f"guidino {plan.command} --resume -o {out}"
    save_run_set(out, plan, collect_rows(plan, out, codes))
    for number, value in enumerate(plan.values, start=1):
        name = plan.name(value)
        if _is_finished(plan, out / name):
            log_info(f"{name} ({number} of {len(plan.values)}): is finished")
            continue
        log_info(f"{name} ({number} of {len(plan.values)})")
        try:
            codes[value] = runner(_argv(plan, out, value))
        except (KeyboardInterrupt, StoppedError):
            print(f"guidino: interrupted; resume with: {resume_command}", file=sys.stderr)
            raise
        finally:
            save_run_set(out, plan, collect_rows(plan, out, codes))
    rows = collect_rows(plan, out, codes)
    print_table(plan, out, rows)
    failed = [f"{row.run} ({failure_reason(row.exit_code)})" for row in rows if row.exit_code != 0]
    if failed:
        raise PartialError(
            f"{len(failed)} of {len(rows)} runs failed: {', '.join(failed)}; retry them: {resume_command}"
        )
