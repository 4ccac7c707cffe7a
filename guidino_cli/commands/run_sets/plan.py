"""The runs of a set, which differ in seed or fold, and their results in `runs.json` and `runs.csv`."""

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from guidino_cli.commands.runs.result import RunResult, read_result
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import write_text
from guidino_cli.json_files import read_json_object, require_type
from guidino_cli.tables import to_csv

SET_FILE, SETTINGS_FILE = "runs.json", "settings.yaml"
_MOST_RUNS = 1000
"""A larger count is more likely one seed than that many runs."""

VariedSetting = Literal["seed", "fold"]


@dataclass(frozen=True)
class RunSetPlan:
    """The runs of a set; its fields are written to `runs.json`.

    Attributes:
        command: "train" or "lora-tune".
        over: Setting that the runs differ in.
        values: Value of that setting, one per run.
        settings: Arguments that change what is trained, the same for all runs; without the preset, whose content is
            kept in `settings.yaml`.
        place: Arguments that a run needs again when it is resumed, such as `--data`.
        origin: The run, or set of runs, that the runs start from.
    """

    command: str
    over: VariedSetting
    values: list[int]
    settings: list[str]
    place: list[str]
    origin: str | None = None

    def name(self, value: int) -> str:
        """Name of the run's folder, such as `seed-0`."""
        return f"{self.over}-{value}"


def parse_values(text: str, option: str) -> list[int]:
    """Parse a count such as `3`, which means 0, 1, 2, or a list such as `4,7` or `4,`.

    Raises:
        ConfigError: Neither, or a number given twice.
    """
    if re.fullmatch(r"[1-9]\d*", text):
        if int(text) > _MOST_RUNS:
            raise ConfigError(
                f"{option} {text}: means {text} runs, expected at most {_MOST_RUNS}; for one: {option} {text},"
            )
        return list(range(int(text)))
    numbers = text.removesuffix(",").split(",")
    if "," not in text or not all(re.fullmatch(r"\d+", number) for number in numbers):
        raise ConfigError(f"{option} {text}: expected how many, such as 3, or which, such as 0,1,2 (one alone: 2,)")
    values = [int(number) for number in numbers]
    if len(set(values)) < len(values):
        raise ConfigError(f"{option} {text}: gives a number twice")
    return values


def is_run_set(folder: Path | None) -> bool:
    """Whether a folder holds a set of runs."""
    return folder is not None and (folder / SET_FILE).is_file()


def origin_run(plan: RunSetPlan, value: int) -> Path | None:
    """The run that a run of the set starts from, if any."""
    if plan.origin is None:
        return None
    origin = Path(plan.origin)
    return origin / plan.name(value) if is_run_set(origin) else origin


def read_set_settings(out: Path) -> str | None:
    """Content of a set's `settings.yaml`; None if all runs start from another run and not from a preset."""
    path = out / SETTINGS_FILE
    return path.read_text(encoding="utf-8") if path.is_file() else None


TABLE_FILE = "runs.csv"
_RESULT_COLUMNS = ("val_dice", "epoch", "epochs", "seconds", "val_empty", "stopped_early")
_FORMAT = 1


@dataclass(frozen=True)
class RunSetRow:
    """One run of a set; `exit_code` is None until it has been started, and 0 if it finished."""

    run: str
    value: int
    exit_code: int | None
    result: RunResult | None


def collect_rows(plan: RunSetPlan, out: Path, exit_codes: dict[int, int]) -> list[RunSetRow]:
    """Every planned run with its exit code and result."""
    rows = []
    for value in plan.values:
        result = read_result(out / plan.name(value))
        rows.append(RunSetRow(plan.name(value), value, 0 if result else exit_codes.get(value), result))
    return rows


def summarize_scores(rows: Sequence[RunSetRow]) -> dict[str, float | int | None]:
    """Mean, sample standard deviation (None for one run), minimum and maximum of the finished runs' validation Dice."""
    dice = [row.result.val_dice for row in rows if row.result is not None]
    if not dice:
        return {"runs": 0, "of": len(rows), "mean": None, "sd": None, "min": None, "max": None}
    deviation = statistics.stdev(dice) if len(dice) > 1 else None
    mean = statistics.fmean(dice)
    return {"runs": len(dice), "of": len(rows), "mean": mean, "sd": deviation, "min": min(dice), "max": max(dice)}


def save_run_set(out: Path, plan: RunSetPlan, rows: Sequence[RunSetRow]) -> None:
    """Write `runs.csv` and, last, `runs.json`."""
    lines = []
    for row in rows:
        result = {} if row.result is None else asdict(row.result)
        code = "" if row.exit_code is None else row.exit_code
        lines.append([row.run, row.value, code, *(result.get(name, "") for name in _RESULT_COLUMNS)])
    write_text(out / TABLE_FILE, to_csv(["run", plan.over, "exit_code", *_RESULT_COLUMNS], lines))
    content = {
        "format": _FORMAT,
        **asdict(plan),
        "val_dice": summarize_scores(rows),
        "runs": [asdict(row) for row in rows],
    }
    write_text(out / SET_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def load_plan(out: Path) -> RunSetPlan:
    """Read the plan of a set.

    Raises:
        DataError: No set, a damaged one, or one of another format.
    """
    path = out / SET_FILE
    if not path.is_file():
        raise DataError(f"{out}: no {SET_FILE}, so no set of runs; start one with --seeds or --folds")
    hint = "remove it and start again"
    content = read_json_object(path, hint=hint)
    if content.get("format", _FORMAT) != _FORMAT:
        raise DataError(f"{path}: written in format {content['format']!r}, this guidino reads format {_FORMAT}")
    return require_type(content, RunSetPlan, source=path, hint=hint)
