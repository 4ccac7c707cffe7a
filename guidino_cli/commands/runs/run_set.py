"""A set of runs that differ in their seed or fold: which runs, with what settings, kept in the set's `runs.json`."""

import csv
import hashlib
import io
import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import yaml

from guidino_cli.commands.runs.result import RunResult, read_result
from guidino_cli.config import RunConfig, load_config, override, parse
from guidino_cli.data.images import write_text
from guidino_cli.data.manifest import FILE_NAME as MANIFEST
from guidino_cli.errors import ConfigError, DataError

FILE_NAME, TABLE, SETTINGS = "runs.json", "runs.csv", "settings.yaml"
_FORMAT = 1

Over = Literal["seed", "fold"]


@dataclass(frozen=True)
class Plan:
    """What the runs of a set are.

    Attributes:
        command: "train" or "lora-tune".
        over: What they differ in.
        values: A run each.
        settings: Words that settle what is trained, the same for all runs; without the preset's name, whose content
            is kept in `settings.yaml`.
        place: Words that a run needs again to go on, such as `--data`.
        origin: The run, or set of runs, that `lora-tune` begins with.
    """

    command: str
    over: Over
    values: list[int]
    settings: list[str]
    place: list[str]
    origin: str | None = None

    def name(self, value: int) -> str:
        """Of the run's folder, such as `seed-0`."""
        return f"{self.over}-{value}"


@dataclass(frozen=True)
class Row:
    """One run of a set; `exit_code` is None as long as it was not tried, and 0 if it finished."""

    run: str
    value: int
    exit_code: int | None
    result: RunResult | None


def parse_values(text: str, option: str) -> list[int]:
    """Read `3` as 0, 1, 2, and `4,7` (or `4,`) as it stands.

    Raises:
        ConfigError: Neither; or the same number twice.
    """
    if re.fullmatch(r"[1-9]\d*", text):
        return list(range(int(text)))
    numbers = text.removesuffix(",").split(",")
    if "," not in text or not all(re.fullmatch(r"\d+", number) for number in numbers):
        raise ConfigError(f"{option} {text}: expected how many, such as 3, or which, such as 0,1,2 (one alone: 2,)")
    values = [int(number) for number in numbers]
    if len(set(values)) < len(values):
        raise ConfigError(f"{option} {text}: names a number twice")
    return values


def origin_of(plan: Plan, value: int) -> Path | None:
    """The run that a run of the set begins with, if any."""
    if plan.origin is None:
        return None
    origin = Path(plan.origin)
    return origin / plan.name(value) if is_set(origin) else origin


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


def is_set(folder: Path | None) -> bool:
    """Whether a folder holds a set of runs."""
    return folder is not None and (folder / FILE_NAME).is_file()


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


def require_alike(out: Path, plan: Plan, text: str | None) -> None:
    """Refuse runs that exist with other settings than those of the set, seed or fold apart, or of other data.

    Args:
        out: The set's folder.
        plan: Of the set.
        text: Content of `settings.yaml`; None where every run begins with one of `plan.origin`.

    Raises:
        ConfigError: The message names the run.
    """
    for value in plan.values:
        folder = out / plan.name(value)
        if not (folder / "config.yaml").is_file():
            continue
        config = load_config(folder / "config.yaml")
        found = config.seed if plan.over == "seed" else config.data.fold
        if found != value:
            raise ConfigError(f"{folder}: was trained with {plan.over} {found}; choose another -o, or --overwrite")
        if _comparable(config, plan.over) != _comparable(_planned(plan, text, value), plan.over):
            raise ConfigError(f"{folder}: was trained with other settings than the set's; choose another -o")
        _require_same_beginning(folder, plan, value)


def _planned(plan: Plan, text: str | None, value: int) -> RunConfig:
    """What a run of the set is trained with."""
    origin = origin_of(plan, value)
    if origin is not None:
        config = load_config(origin / "config.yaml")
    elif text is not None:
        config = parse(yaml.safe_load(text), label=SETTINGS)
    else:
        raise DataError(f"{SETTINGS} is missing from the set; begin it again with --overwrite")
    if plan.command != "lora-tune":
        return config
    words = [word for flag, word in pairwise(plan.settings) if flag == "--set"]
    frozen = ["train.freeze_heads=true"] if "--freeze-heads" in plan.settings else []
    return override(config, [*([] if config.model.lora else ["model.lora={}"]), *words, *frozen])


def _comparable(config: RunConfig, over: Over) -> RunConfig:
    """Without the description, which LoRA adds to, and the place of the data, which may be moved."""
    data = replace(config.data, root=None)
    if over == "seed":
        return replace(config, description="", data=data, seed=0)
    return replace(config, description="", data=replace(data, fold=None))


def _require_same_beginning(folder: Path, plan: Plan, value: int) -> None:
    """The same cases, and the same weights of the run that `lora-tune` began with; by their hashes."""
    path = folder / "run.json"
    if not path.is_file():
        return
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = {"cases": facts["data"]["sha256"], "weights": facts.get("origin", {}).get("sha256")}
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: damaged ({type(error).__name__}: {error}); remove {folder} to train it again"
        ) from error
    origin = origin_of(plan, value)
    files = {} if origin is None else {"weights": origin / "best" / "model.safetensors"}
    if "--data" in plan.place:
        files["cases"] = Path(plan.place[plan.place.index("--data") + 1]) / MANIFEST
    for kind, file in files.items():
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() != known[kind]:
            raise ConfigError(f"{folder}: was trained with other {kind} than {file}; choose another -o")
