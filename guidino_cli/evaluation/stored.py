"""Evaluations read back from `report.json`, and compared case by case without scoring a mask again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import nan
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from typing_extensions import TypedDict

from guidino_cli.errors import DataError
from guidino_cli.evaluation.comparison import PairedComparison, compare_pair, holm_correction
from guidino_cli.evaluation.summary import MEAN_OF_CLASSES
from guidino_cli.json_files import read_json_object, require_type
from guidino_cli.metrics import METRICS, SURFACE_METRICS

REPORT_FILE = "report.json"
_HINT = "give a folder that `guidino evaluate -o` wrote"
# Settings that say nothing about how a case is scored.
_OF_THE_WHOLE = {"only_predicted"}


class _SummaryLine(TypedDict):
    target: str
    metric: str


class _Case(TypedDict):
    case: str
    scores: list[dict[str, Any]]


class _Gate(TypedDict):
    name: str
    passed: bool


class _Pairing(TypedDict):
    warnings: NotRequired[list[str]]


class _Report(TypedDict):
    """Entries of `report.json` that are read again; versions before lack some."""

    schema: int
    truth: str
    headline: str
    policy: dict[str, Any]
    summary: list[_SummaryLine]
    cases: list[_Case]
    predictions: NotRequired[str]
    unit: NotRequired[str]
    runs: NotRequired[list[Any]]
    settings: NotRequired[dict[str, Any]]
    counts: NotRequired[dict[str, int]]
    pairing: NotRequired[_Pairing]
    gates: NotRequired[list[_Gate]]
    definitions: NotRequired[dict[str, Any]]
    absent_targets: NotRequired[list[str]]
    created: NotRequired[str]


@dataclass(frozen=True)
class StoredEvaluation:
    """A report of `guidino evaluate` about the masks of a folder.

    Attributes:
        name: For tables.
        path: Folder of the report.
        report: Content of `report.json`.
    """

    name: str
    path: Path
    report: Mapping[str, Any]

    @property
    def headline(self) -> str:
        """Target of the headline result: a class, or `MEAN_OF_CLASSES`."""
        return str(self.report["headline"])

    @property
    def unit(self) -> str:
        """Unit of distances."""
        return str(self.report.get("unit", ""))

    @property
    def metrics(self) -> list[str]:
        """Metrics of the headline, in their order."""
        return [line["metric"] for line in self.report["summary"] if line["target"] == self.headline]

    @property
    def targets(self) -> list[str]:
        """The headline, and the classes if there are several."""
        return list(dict.fromkeys([self.headline, *(line["target"] for line in self.report["summary"])]))

    @property
    def cases(self) -> list[str]:
        """Names of the cases, in the order of the report."""
        return [case["case"] for case in self.report["cases"]]

    def line(self, metric: str, target: str | None = None) -> dict[str, float]:
        """Statistics of a metric, NaN where there is none: mean, std, median, ci_low, ci_high, used, total."""
        wanted = (self.headline if target is None else target, metric)
        for line in self.report["summary"]:
            if (line["target"], line["metric"]) == wanted:
                return {key: _number(value) for key, value in line.items() if key not in {"target", "metric", "unit"}}
        return {}

    def column(self, metric: str, target: str) -> dict[str, float]:
        """Value of each case: of a class, or the mean over the classes that have one; NaN without any."""
        absent = set(self.report.get("absent_targets", []))
        found = {}
        for case in self.report["cases"]:
            scores = [score for score in case["scores"] if score.get("target") not in absent]
            if target != MEAN_OF_CLASSES:
                scores = [score for score in scores if score.get("target") == target]
            known = [value for score in scores if not np.isnan(value := _number(score.get(metric)))]
            found[case["case"]] = float(np.mean(known)) if known else nan
        return found


def read_evaluation(folder: Path, *, name: str) -> StoredEvaluation:
    """Read the folder of a report.

    Raises:
        DataError: It holds no report of `evaluate`, or a damaged one, or has a metric that is unknown.
    """
    path = folder / REPORT_FILE
    content = read_json_object(path, hint=_HINT)
    require_type(content, _Report, source=path, hint=_HINT)
    found = StoredEvaluation(name, folder, content)
    unknown = [line["metric"] for line in content["summary"] if line["metric"] not in METRICS]
    if unknown:
        raise DataError(f"{path}: has {unknown[0]}, which this version does not measure; evaluate the masks anew")
    if len(set(found.cases)) < len(found.cases):
        raise DataError(f"{path}: damaged (a case comes twice); {_HINT}")
    if not found.metrics or not found.cases:
        raise DataError(f"{path}: has no {'metric' if found.cases else 'case'} of its headline; {_HINT}")
    return found


def compare_stored(
    evaluations: Sequence[StoredEvaluation], *, seed: int = 0
) -> tuple[list[PairedComparison], list[str]]:
    """Compare every pair of evaluations that can be, as `guidino compare` does; intervals are over cases.

    Args:
        evaluations: In their order: of a pair, the second is better where a difference is positive (of a distance,
            negative).
        seed: Random seed of the bootstrap.

    Returns:
        The comparisons, corrected over all of them, and why pairs are left out.
    """
    comparisons: list[PairedComparison] = []
    reasons: list[str] = []
    for first, second in combinations(evaluations, 2):
        if reason := _reason_incomparable(first, second):
            reasons.append(f"{first.name} and {second.name} are not compared: {reason}")
            continue
        targets = [target for target in first.targets if target in second.targets]
        metrics = [metric for metric in first.metrics if metric in second.metrics]
        for target in targets:
            for metric in metrics:
                before, after = first.column(metric, target), second.column(metric, target)
                differences = np.array([after[case] - before[case] for case in first.cases])
                # Infinities of both signs have no mean.
                with np.errstate(invalid="ignore"):
                    item = compare_pair(first.name, second.name, metric, differences, target=target, seed=seed)
                comparisons.append(item)
    corrected = holm_correction([item.p_value for item in comparisons])
    return [replace(item, p_holm=value) for item, value in zip(comparisons, corrected, strict=True)], reasons


def _reason_incomparable(first: StoredEvaluation, second: StoredEvaluation) -> str:
    """Why the cases of two evaluations cannot be compared one by one; "" if they can."""
    ours, theirs = set(first.cases), set(second.cases)
    if ours != theirs:
        return f"other cases ({len(theirs - ours)} only in the second, {len(ours - theirs)} only in the first)"
    if first.headline != second.headline:
        return f"other classes ({first.headline}; {second.headline})"
    if first.report["policy"] != second.report["policy"]:
        return "scored with another policy or definition of HD95"
    has_distances = SURFACE_METRICS.intersection(first.metrics, second.metrics)
    if has_distances and first.unit and second.unit and first.unit != second.unit:
        return f"distances in other units ({first.unit}; {second.unit})"
    before, now = first.report.get("settings", {}), second.report.get("settings", {})
    changed = [key for key in before if key in now and before[key] != now[key] and key not in _OF_THE_WHOLE]
    if changed:
        return f"scored with other settings ({', '.join(changed)})"
    return ""


def _number(value: Any) -> float:
    """A number of a report, NaN for null; infinity is written as text."""
    if isinstance(value, str):
        return {"inf": float("inf"), "-inf": float("-inf")}.get(value, nan)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else nan
