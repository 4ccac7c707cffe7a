"""What a set of runs came to, kept in its `runs.json` and `runs.csv`."""

import csv
import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from guidino_cli.commands.runs.result import RunResult, read_result
from guidino_cli.commands.sets.plan import FILE_NAME, Plan
from guidino_cli.errors import DataError
from guidino_cli.files import write_text

TABLE = "runs.csv"
_FORMAT = 1


@dataclass(frozen=True)
class Row:
    """One run of a set; `exit_code` is None as long as it was not tried, and 0 if it finished."""

    run: str
    value: int
    exit_code: int | None
    result: RunResult | None


def rows_of(plan: Plan, out: Path, exit_codes: dict[int, int]) -> list[Row]:
    """Every planned run with what it came to."""
    rows = []
    for value in plan.values:
        result = read_result(out / plan.name(value))
        rows.append(Row(plan.name(value), value, 0 if result else exit_codes.get(value), result))
    return rows


def scores(rows: Sequence[Row]) -> dict[str, float | int | None]:
    """Of the finished runs: mean, sample standard deviation (None of one run), least and largest validation Dice."""
    dice = [row.result.val_dice for row in rows if row.result is not None]
    if not dice:
        return {"runs": 0, "of": len(rows), "mean": None, "sd": None, "min": None, "max": None}
    spread = statistics.stdev(dice) if len(dice) > 1 else None
    mean = statistics.fmean(dice)
    return {"runs": len(dice), "of": len(rows), "mean": mean, "sd": spread, "min": min(dice), "max": max(dice)}


def save(out: Path, plan: Plan, rows: Sequence[Row]) -> None:
    """Write `runs.csv` and, last, `runs.json`."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["run", plan.over, "exit_code", "val_dice", "epoch", "epochs", "seconds"])
    for row in rows:
        result = [""] * 4 if row.result is None else list(asdict(row.result).values())
        writer.writerow([row.run, row.value, "" if row.exit_code is None else row.exit_code, *result])
    write_text(out / TABLE, table.getvalue())
    content = {"format": _FORMAT, **asdict(plan), "val_dice": scores(rows), "runs": [asdict(row) for row in rows]}
    write_text(out / FILE_NAME, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def load(out: Path) -> Plan:
    """The plan of a set.

    Raises:
        DataError: No set, a damaged one, or one of another version.
    """
    path = out / FILE_NAME
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise DataError(f"{path}: written in format {content['format']}, this guidino reads format {_FORMAT}")
        return Plan(**{name: content[name] for name in Plan.__dataclass_fields__})
    except FileNotFoundError as error:
        raise DataError(f"{out}: no {FILE_NAME}, so no set of runs; begin one with --seeds or --folds") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({type(error).__name__}: {error}); remove it and begin again") from error
