"""Train over seeds or folds: one process a run, finished ones are skipped, mean and spread at the end."""

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from guidino_cli.commands.runs import NO_PRESET, run_set
from guidino_cli.commands.runs.child import call
from guidino_cli.commands.runs.result import FILE_NAME as RESULT
from guidino_cli.commands.runs.result import read_result
from guidino_cli.commands.runs.run_set import SETTINGS, Over, Plan, Row
from guidino_cli.config import dump, load_preset
from guidino_cli.data.images import write_text
from guidino_cli.data.manifest import FILE_NAME as MANIFEST
from guidino_cli.data.manifest import load_manifest
from guidino_cli.errors import EXIT_CODES, ConfigError, DataError, PartialError, StoppedError
from guidino_cli.progress import say

Caller = Callable[[Sequence[str]], int]

_MEANING = {
    "seed": "Scores are of the selected epoch, on the validation cases that selected it.",
    "fold": "Scores are of the selected epoch, on the fold that selected it: they flatter.",
}


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
    caller: Caller = call,
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
    over: Over = "seed" if folds is None else "fold"
    values = run_set.parse_values(folds or seeds or "", f"--{over}s") if folds or seeds else None
    _require_sense(over, values, seeds=seeds, folds=folds, seed=seed, overrides=overrides)
    start = None if origin is None else str(origin.resolve())
    where = [] if data is None else ["--data", str((data.parent if data.name == MANIFEST else data).resolve())]
    settings, text = _settings(command, preset, [*overrides, *([] if seed is None else [f"seed={seed}"])], flags)
    asked = bool(preset or overrides or flags or seed is not None)
    if resume and run_set.is_set(out):
        plan = _resumed(out, over, values, asked=(settings, text) if asked else None, place=[*where, *place])
        # It may have been moved; runs that exist began with the same weights, or are refused below.
        plan = replace(plan, origin=start or plan.origin)
    else:
        if values is None:
            raise ConfigError(f"{out}: no set of runs to go on with; begin one with --seeds 3 or --folds 5")
        plan = Plan(command, over, values, settings, [*where, *place], start)
        if text is None and origin is None:
            raise ConfigError(NO_PRESET)
        if not (resume or overwrite or dry_run) and out.is_dir() and any(out.iterdir()):
            raise ConfigError(
                f"{out}: is not empty; go on with --resume, start anew with --overwrite, or choose another -o"
            )
    _require_origins(plan)
    if plan.over == "fold":
        _require_folds(plan, count=int(folds) if folds is not None and folds.isdigit() else None)
    if not overwrite:
        kept = out / SETTINGS
        run_set.require_alike(out, plan, text or (kept.read_text(encoding="utf-8") if kept.is_file() else None))
    if dry_run:
        for value in plan.values:
            print(shlex.join(["guidino", *_words(plan, out, value)]))
        return
    if overwrite and not resume:
        _forget(plan, out)
    if text is not None:
        write_text(out / SETTINGS, text)
    _carry_out(plan, out, caller=caller)


def _require_sense(
    over: Over,
    values: Sequence[int] | None,
    *,
    seeds: str | None,
    folds: str | None,
    seed: int | None,
    overrides: Sequence[str],
) -> None:
    if seeds is not None and folds is not None:
        raise ConfigError("--seeds and --folds: one at a time; train a set of folds for every --seed instead")
    if values is None:
        return
    key = "seed" if over == "seed" else "data.fold"
    if (over == "seed" and seed is not None) or any(item.partition("=")[0] == key for item in overrides):
        raise ConfigError(f"--{over}s: gives every run its {key}; leave out --seed and --set {key}")


def _settings(
    command: str, preset: str | None, overrides: Sequence[str], flags: Sequence[str]
) -> tuple[list[str], str | None]:
    """Words that settle what is trained, and the preset's content: the file may change while the runs go on."""
    if preset is None:
        return [*flags, *_sets(overrides)], None
    if command == "train":
        return [*flags], dump(load_preset(preset, overrides))
    # Some settings of lora-tune fit no preset before LoRA is switched on.
    return [*flags, *_sets(overrides)], dump(load_preset(preset))


def _sets(overrides: Sequence[str]) -> list[str]:
    return [word for item in overrides for word in ("--set", item)]


def _resumed(
    out: Path, over: Over, values: list[int] | None, *, asked: tuple[list[str], str | None] | None, place: list[str]
) -> Plan:
    """The plan of a set to go on with, with more values if they are asked for."""
    plan = run_set.load(out)
    if values is not None:
        if over != plan.over or not set(plan.values) <= set(values):
            have = ",".join(map(str, plan.values))
            raise ConfigError(f"{out}: is a set of {plan.over}s {have}; --resume goes on with these, or adds to them")
        plan = replace(plan, values=values)
    if asked is not None:
        kept = (out / SETTINGS).read_text(encoding="utf-8") if (out / SETTINGS).is_file() else None
        if asked != (plan.settings, kept):
            raise ConfigError(f"{out}: --resume goes on with the set's own settings; leave out --preset, --set, --seed")
    return replace(plan, place=place or plan.place)


def _require_origins(plan: Plan) -> None:
    """What lora-tune begins with: one run for all seeds, or a run each; over folds only a run each."""
    if plan.origin is None:
        return
    origin = Path(plan.origin)
    if not run_set.is_set(origin):
        if plan.over == "fold":
            raise ConfigError(
                f"{origin}: one run for all folds has seen the cases that folds validate on; "
                "give a set of folds, made by `guidino train --folds`"
            )
        return
    missing = [name for name in map(plan.name, plan.values) if read_result(origin / name) is None]
    if missing:
        raise ConfigError(f"{origin}: has no finished {', '.join(missing)}; train them first")


def _require_folds(plan: Plan, *, count: int | None) -> None:
    """`DataError` unless the data has the folds, as many as `count` if given, and none shares a group with another."""
    if "--data" not in plan.place:
        if plan.origin is None:
            raise ConfigError("no data: add --data DATA, a folder made by `guidino prepare --folds 5`")
        return
    folder = Path(plan.place[plan.place.index("--data") + 1])
    cases = [case for case in load_manifest(folder).cases if case.fold is not None]
    known = sorted({case.fold for case in cases if case.fold is not None})
    if not known:
        wanted = count or max(plan.values) + 1
        raise DataError(f"{folder}: has no folds; make them with `guidino prepare SOURCE -o DATA --folds {wanted}`")
    if count is not None and count != len(known):
        raise DataError(f"--folds {count}: the data has {len(known)} folds ({folder}); give --folds {len(known)}")
    if not set(plan.values) <= set(known):
        asked = ",".join(map(str, plan.values))
        raise DataError(f"--folds {asked}: the data has folds {known[0]}..{known[-1]} ({folder})")
    fold_of: dict[str, int | None] = {}
    for case in cases:
        if fold_of.setdefault(case.group, case.fold) != case.fold:
            raise DataError(f"{folder}: group {case.group} is in two folds, so validation would see training patients")


def _forget(plan: Plan, out: Path) -> None:
    """Take from old runs what a set would go on from; what is not ours stays."""
    for value in plan.values:
        folder = out / plan.name(value)
        shutil.rmtree(folder / "last", ignore_errors=True)
        for name in (RESULT, "config.yaml"):
            (folder / name).unlink(missing_ok=True)


def _words(plan: Plan, out: Path, value: int) -> list[str]:
    """The command of a run: it goes on if it has something to go on from."""
    folder = out / plan.name(value)
    # A kill may leave a hidden file that was not whole yet.
    if any(not path.name.startswith(".") for path in (folder / "last").glob("*")):
        return [plan.command, "--resume", "-o", str(folder), *plan.place]
    begin = ["--preset", str(out / SETTINGS)]
    origin = run_set.origin_of(plan, value)
    if origin is not None:
        begin = [str(origin)]
    key = "seed" if plan.over == "seed" else "data.fold"
    # The folder is of this set: an attempt that left nothing to go on from may be written over.
    return [
        plan.command, *begin, *plan.settings, "--set", f"{key}={value}", *plan.place, "-o", str(folder), "--overwrite",
    ]  # fmt: skip


def _is_finished(plan: Plan, folder: Path) -> bool:
    merged = "--merge" not in plan.place or (folder / "merged" / "config.json").is_file()
    return read_result(folder) is not None and merged


def _carry_out(plan: Plan, out: Path, *, caller: Caller) -> None:
    codes: dict[int, int] = {}
    go_on = f"guidino {plan.command} --resume -o {out}"
    run_set.save(out, plan, run_set.rows_of(plan, out, codes))
    for number, value in enumerate(plan.values, start=1):
        name = plan.name(value)
        if _is_finished(plan, out / name):
            say(f"{name} ({number} of {len(plan.values)}): is finished")
            continue
        say(f"{name} ({number} of {len(plan.values)})")
        try:
            codes[value] = caller(_words(plan, out, value))
        except (KeyboardInterrupt, StoppedError):
            print(f"guidino: interrupted; go on with: {go_on}", file=sys.stderr)
            raise
        finally:
            run_set.save(out, plan, run_set.rows_of(plan, out, codes))
    rows = run_set.rows_of(plan, out, codes)
    _show(plan, out, rows)
    failed = [f"{row.run} ({_reason(row.exit_code)})" for row in rows if row.exit_code != 0]
    if failed:
        raise PartialError(f"{len(failed)} of {len(rows)} runs failed: {', '.join(failed)}; try them again: {go_on}")


def _reason(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by signal {-code}" + (", as the system does when memory runs out" if code == -9 else "")
    return f"exit code {code}: {EXIT_CODES.get(code or 0, 'unknown')}" if code else "left no result"


def _show(plan: Plan, out: Path, rows: Sequence[Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("run", "val Dice", "epoch", "of", "minutes"):
        table.add_column(title, justify="left" if title == "run" else "right")
    for row in rows:
        result = row.result
        if result is None:
            table.add_row(row.run, "failed", "-", "-", "-")
        else:
            minutes = f"{result.seconds / 60:.1f}"
            table.add_row(row.run, f"{result.val_dice:.4f}", str(result.epoch), str(result.epochs), minutes)
    console = Console(highlight=False)
    console.print(table)
    found = run_set.scores(rows)
    if found["mean"] is not None:
        spread = "" if found["sd"] is None else f" +- {found['sd']:.4f} (sample standard deviation)"
        count = f"{found['runs']} of {found['of']} runs" if found["runs"] != found["of"] else f"{found['of']} runs"
        print(f"mean val Dice {found['mean']:.4f}{spread} of {count}")
        print(f"from {found['min']:.4f} to {found['max']:.4f}")
        print(_MEANING[plan.over])
    print(f"wrote {out / run_set.TABLE} and {out / run_set.FILE_NAME}")
