"""The runs of a set, which differ in their seed or fold: which they are, and with what each begins."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from guidino_cli.errors import ConfigError

FILE_NAME, SETTINGS = "runs.json", "settings.yaml"

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


def is_set(folder: Path | None) -> bool:
    """Whether a folder holds a set of runs."""
    return folder is not None and (folder / FILE_NAME).is_file()


def origin_of(plan: Plan, value: int) -> Path | None:
    """The run that a run of the set begins with, if any."""
    if plan.origin is None:
        return None
    origin = Path(plan.origin)
    return origin / plan.name(value) if is_set(origin) else origin


def settings_of(out: Path) -> str | None:
    """Content of a set's `settings.yaml`; None where all runs begin with a run and no preset."""
    path = out / SETTINGS
    return path.read_text(encoding="utf-8") if path.is_file() else None
