"""Scores of a model card, read from reports of `guidino evaluate`."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.json_files import read_json_object
from guidino_cli.metrics import METRICS

_HINT = "give the folder that `guidino evaluate -o` wrote"
_TRUTH = re.compile(r"(?:(?P<split>\w+ split|all splits) of )?(?P<place>.+?)(?: \((?P<count>\d+ cases?)\))?")


@dataclass(frozen=True)
class CardScore:
    """A mean over cases.

    Attributes:
        metric: Name in `METRICS`.
        target: Class, or the mean of several.
        unit: "px", "mm", "ml" or "".
        mean: Mean, None if no case has a value.
        low: Lower end of its 95 % interval, None if there is none.
        high: Upper end.
        used: Cases that have a value.
        total: Cases.
    """

    metric: str
    target: str
    unit: str
    mean: float | None
    low: float | None
    high: float | None
    used: int
    total: int

    @property
    def label(self) -> str:
        """Name in tables."""
        return METRICS[self.metric].label if self.metric in METRICS else self.metric

    @property
    def value(self) -> str:
        """The mean as text."""
        return self._format(self.mean)

    @property
    def interval(self) -> str:
        """The interval as text."""
        return (
            "-" if self.low is None or self.high is None else f"{self._format(self.low)} to {self._format(self.high)}"
        )

    @property
    def count(self) -> str:
        """Cases as text."""
        return str(self.total) if self.used == self.total else f"{self.used} of {self.total}"

    def _format(self, value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}" if self.unit else f"{value:.3f}"


@dataclass(frozen=True)
class ScoreTable:
    """Scores on one data set.

    Attributes:
        title: What was scored on what.
        dataset: Its name for the hub.
        dataset_type: The same in letters that the hub accepts.
        scores: In the order of the report.
        note: How they were measured.
    """

    title: str
    dataset: str
    dataset_type: str
    scores: list[CardScore]
    note: str


def read_scores(place: Path, *, weights: str) -> ScoreTable:
    """Read a report.

    Args:
        place: Folder of a report, or its report.json.
        weights: SHA-256 of the run's weights, as `weights_hash` gives it.

    Raises:
        DataError: No report, or a damaged one.
        ConfigError: It scores masks of another run, or of several.
    """
    path = place / "report.json" if place.is_dir() else place
    if not path.is_file():
        raise DataError(f"{place}: no report; {_HINT}")
    report = read_json_object(path, hint=_HINT)
    try:
        rows = [_read_row(row) for row in report["summary"]]
        (truth, name), definitions, counts = (
            _without_folders(str(report["truth"])),
            report["definitions"],
            report["counts"],
        )
        runs = [str(item) for item in report.get("runs") or ()]
        text = f"{definitions['interval']}; {_describe_counts(counts)}"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: no report of `guidino evaluate` ({type(error).__name__}: {error}); {_HINT}"
        ) from error
    if len(runs) > 1:
        raise ConfigError(
            f"{path}: scores an ensemble of {len(runs)} runs, and a card is for one; evaluate its own masks"
        )
    if runs and weights not in runs[0]:
        raise ConfigError(f"{path}: scores masks of another run ({runs[0][:120]}); evaluate this run's masks")
    notes = [f"Intervals: {text}."]
    if any(row.metric == "hd95" for row in rows):
        notes.append(f"HD95: {definitions.get('hd95', 'not stated')}.")
    if re.match(r"(train|val|all splits)\b", truth):
        which = "Some of these cases" if truth.startswith("all") else "These cases"
        notes.append(f"{which} were used in training or to choose its best epoch: scores on new images will be lower.")
    if not runs:
        notes.append("The report does not record which run made the masks.")
    kind = re.sub(r"[^\w.-]+", "-", name).strip("-").lower() or "unknown"
    return ScoreTable(truth, name, kind, rows, " ".join(notes))


def _read_row(row: dict[str, Any]) -> CardScore:
    values = [row[name] for name in ("mean", "ci_low", "ci_high")]
    mean, low, high = (float(item) if item is not None and math.isfinite(item) else None for item in values)
    metric, target, unit = (str(row[name]) for name in ("metric", "target", "unit"))
    return CardScore(metric, target, unit, mean, low, high, int(row["used"]), int(row["total"]))


def _describe_counts(counts: dict[str, Any]) -> str:
    text = f"{int(counts['scored'])} of {int(counts['cases'])} cases scored"
    missing = int(counts["missing"]) + int(counts["failed"])
    return f"{text}, {missing} missing or failed and counted as failures" if missing else text


def _without_folders(text: str) -> tuple[str, str]:
    """The truth as a report names it, its folder cut to the last part; the same without the number of cases."""
    match = _TRUTH.fullmatch(" ".join(text.split()))
    if match is None:
        raise ValueError("no truth")
    name = re.split(r"[\\/]", match["place"].rstrip("\\/"))[-1]
    name = f"{match['split']} of {name}" if match["split"] else name
    return (f"{name} ({match['count']})" if match["count"] else name), name
