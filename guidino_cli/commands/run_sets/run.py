"""Train the runs of a set, one process each; mean and spread as a table at the end."""

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from guidino_cli.commands.run_sets.options import RunSetOptions, make_plan, require_matching_runs
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
from guidino_cli.commands.runs.result import FILE_NAME as RESULT
from guidino_cli.commands.runs.result import read_result
from guidino_cli.errors import EXIT_CODES, ConfigError, PartialError, StoppedError
from guidino_cli.files import write_text
from guidino_cli.progress import log_info

_MEANING = {
    "seed": "Scores are of the selected epoch, on the validation cases that selected it.",
    "fold": "Scores are of the selected epoch, on the fold that selected it: they flatter.",
}


def print_table(plan: RunSetPlan, out: Path, rows: Sequence[RunSetRow]) -> None:
    """Print a row a run, mean and spread, and where they are kept."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("run", "val Dice", "epoch", "of", "minutes"):
        table.add_column(title, justify="left" if title == "run" else "right")
    for row in rows:
        table.add_row(*_cells(row))
    Console(highlight=False).print(table)
    _print_spread(plan, rows)
    print(f"wrote {out / TABLE_FILE} and {out / SET_FILE}")


def _cells(row: RunSetRow) -> tuple[str, ...]:
    result = row.result
    if result is None:
        return row.run, "failed", "-", "-", "-"
    return row.run, f"{result.val_dice:.4f}", str(result.epoch), str(result.epochs), f"{result.seconds / 60:.1f}"


def _print_spread(plan: RunSetPlan, rows: Sequence[RunSetRow]) -> None:
    found = summarize_scores(rows)
    if found["mean"] is None:
        return
    spread = "" if found["sd"] is None else f" +- {found['sd']:.4f} (sample standard deviation)"
    count = f"{found['runs']} of {found['of']} runs" if found["runs"] != found["of"] else f"{found['of']} runs"
    print(f"mean val Dice {found['mean']:.4f}{spread} of {count}")
    print(f"from {found['min']:.4f} to {found['max']:.4f}")
    print(_MEANING[plan.over])


def failure_reason(code: int | None) -> str:
    """Why a run failed, from its exit code; None where it left no result."""
    if code is not None and code < 0:
        return f"killed by signal {-code}" + (", as the system does when memory runs out" if code == -9 else "")
    return f"exit code {code}: {EXIT_CODES.get(code or 0, 'unknown')}" if code else "left no result"


CommandRunner = Callable[[Sequence[str]], int]


def run(
    command: str,
    *,
    seeds: str | None,
    folds: str | None,
    origin: Path | None = None,
    preset: str | None,
    data: Path | None,
    out: Path | None,
    overrides: Sequence[str],
    seed: int | None,
    flags: Sequence[str] = (),
    place: Sequence[str] = (),
    resume: bool,
    overwrite: bool,
    dry_run: bool,
    caller: CommandRunner = run_in_subprocess,
) -> None:
    """Train every run of a set that is not finished.

    Args:
        command: "train" or "lora-tune".
        seeds: How many, or which; None over folds.
        folds: How many, or which; None over seeds.
        origin: RUN of lora-tune.
        preset: Of the command.
        data: Of the command.
        out: The set's folder.
        overrides: Of the command.
        seed: Of the command, the same for all folds.
        flags: More words of the command that settle what is trained.
        place: Words that every run gets, new or resumed.
        resume: Go on with a set.
        overwrite: Begin anew in a folder that is not empty.
        dry_run: Print the command lines, train nothing.
        caller: Runs words as a command, returns the exit code.

    Raises:
        ConfigError: Words that do not go together.
        DataError: No such folds.
        PartialError: Some runs failed; the others are done.
    """
    if out is None:
        raise ConfigError("--seeds and --folds need a folder for the runs: add -o OUT")
    asked = RunSetOptions(command, seeds, folds, origin, preset, data, overrides, seed, flags, place)
    plan, text = make_plan(asked, out, resume=resume, may_hold_files=resume or overwrite or dry_run)
    if not overwrite:
        require_matching_runs(out, plan, text or read_set_settings(out))
    if dry_run:
        for value in plan.values:
            print(shlex.join(["guidino", *_words(plan, out, value)]))
        return
    if overwrite and not resume:
        _forget(plan, out)
    if text is not None:
        write_text(out / SETTINGS_FILE, text)
    _carry_out(plan, out, caller=caller)


def _forget(plan: RunSetPlan, out: Path) -> None:
    """Take from old runs what a set would go on from; what is not ours stays."""
    for value in plan.values:
        folder = out / plan.name(value)
        shutil.rmtree(folder / "last", ignore_errors=True)
        for name in (RESULT, "config.yaml"):
            (folder / name).unlink(missing_ok=True)


def _words(plan: RunSetPlan, out: Path, value: int) -> list[str]:
    """The command of a run: it goes on if it has something to go on from."""
    folder = out / plan.name(value)
    # A kill may leave a hidden file that was not whole yet.
    if any(not path.name.startswith(".") for path in (folder / "last").glob("*")):
        return [plan.command, "--resume", "-o", str(folder), *plan.place]
    begin = ["--preset", str(out / SETTINGS_FILE)]
    origin = origin_run(plan, value)
    if origin is not None:
        begin = [str(origin)]
    key = "seed" if plan.over == "seed" else "data.fold"
    # The folder is of this set: an attempt that left nothing to go on from may be written over.
    return [
        plan.command, *begin, *plan.settings, "--set", f"{key}={value}", *plan.place, "-o", str(folder), "--overwrite",
    ]  # fmt: skip


def _is_finished(plan: RunSetPlan, folder: Path) -> bool:
    merged = "--merge" not in plan.place or (folder / "merged" / "config.json").is_file()
    return read_result(folder) is not None and merged


def _carry_out(plan: RunSetPlan, out: Path, *, caller: CommandRunner) -> None:
    codes: dict[int, int] = {}
    go_on = f"guidino {plan.command} --resume -o {out}"
    save_run_set(out, plan, collect_rows(plan, out, codes))
    for number, value in enumerate(plan.values, start=1):
        name = plan.name(value)
        if _is_finished(plan, out / name):
            log_info(f"{name} ({number} of {len(plan.values)}): is finished")
            continue
        log_info(f"{name} ({number} of {len(plan.values)})")
        try:
            codes[value] = caller(_words(plan, out, value))
        except (KeyboardInterrupt, StoppedError):
            print(f"guidino: interrupted; go on with: {go_on}", file=sys.stderr)
            raise
        finally:
            save_run_set(out, plan, collect_rows(plan, out, codes))
    rows = collect_rows(plan, out, codes)
    print_table(plan, out, rows)
    failed = [f"{row.run} ({failure_reason(row.exit_code)})" for row in rows if row.exit_code != 0]
    if failed:
        raise PartialError(f"{len(failed)} of {len(rows)} runs failed: {', '.join(failed)}; try them again: {go_on}")
