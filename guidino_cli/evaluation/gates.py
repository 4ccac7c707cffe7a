"""Quality gates: limits on metrics; one that cannot be measured fails."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from guidino_cli.errors import ConfigError, DataError, unknown_name
from guidino_cli.evaluation.summary import EvaluationResult, get_score
from guidino_cli.metrics import METRICS

GateStatistic = Literal["mean", "ci-low", "worst"]


@dataclass(frozen=True)
class Gate:
    """A limit on one metric.

    Attributes:
        metric: Name from `METRICS`; shares must reach the limit, distances and errors must not exceed it.
        limit: In the unit of the metric.
        target: Name of the target; None for the headline.
    """

    metric: str
    limit: float
    target: str | None = None


@dataclass(frozen=True)
class GateResult:
    """Outcome of a gate.

    Attributes:
        name: Such as `dice >= 0.85 (mean, polyp)`.
        value: The value that was compared; NaN if there is none.
        passed: Whether the limit holds; False for NaN.
        note: The denominator, or the reason for a missing value.
    """

    name: str
    value: float
    passed: bool
    note: str

    @property
    def sentence(self) -> str:
        """One line for terminal, Markdown and HTML."""
        value = "nothing to compare" if math.isnan(self.value) else f"{self.value:.4f}"
        return f"gate {self.name}: {value} {'pass' if self.passed else 'FAIL'} ({self.note})"


def parse_gate(metric: str, text: str) -> Gate:
    """Parse the value of an option such as `--min-dice`: `0.85`, or `polyp=0.85` for one target.

    Raises:
        ConfigError: The limit is not a finite number.
    """
    target, _, number = text.rpartition("=")
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        side = "min" if METRICS[metric].higher_is_better else "max"
        raise ConfigError(f"--{side}-{metric} {text}: expected a number such as 0.85, or TARGET=0.85")
    return Gate(metric, limit, target or None)


def check_gates(gates: Sequence[Gate], result: EvaluationResult, on: str) -> list[GateResult]:
    """Compare every gate with the result.

    Args:
        gates: The limits.
        result: Contains the metrics of the gates.
        on: "mean"; "ci-low", the worse end of the 95 % interval; or "worst", the worst case.

    Raises:
        ConfigError: There is no such target.
    """
    return [_evaluate_gate(gate, result, on) for gate in gates]


def check_baseline(result: EvaluationResult, report: Path, max_drop: float) -> list[GateResult]:
    """Check that no share of the headline is more than `max_drop` below an earlier report of the same cases.

    Raises:
        DataError: The file is not a report.
    """
    baseline = load_report(report)
    reason = _reason_incomparable(result, baseline)
    baseline_rows = {line["metric"]: line for line in baseline["summary"] if line["target"] == baseline["headline"]}
    results = []
    for metric in result.config.metrics:
        if METRICS[metric].kind != "share" or metric not in baseline_rows:
            continue
        before, now = baseline_rows[metric]["mean"], result.statistics(result.headline, metric).mean
        drop = math.nan if before is None or reason else before - now
        passed = not math.isnan(drop) and drop <= max_drop
        note = reason or f"{before if before is None else round(before, 4)} before, {now:.4f} now"
        results.append(GateResult(f"{metric} drop <= {max_drop:g}", drop, passed, note))
    note = f"{report.name} has none of these metrics"
    return results or [GateResult(f"drop <= {max_drop:g}", math.nan, False, note)]


def load_report(path: Path) -> dict[str, Any]:
    """Read a `report.json`, or the one in a report folder.

    Raises:
        DataError: The file is missing or not a report.
    """
    path = path / "report.json" if path.is_dir() else path
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        for key in ("schema", "summary", "headline", "policy", "cases"):
            report[key]
        return dict(report)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); it is written by `guidino evaluate -o`") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is not a report of `guidino evaluate` ({type(error).__name__}: {error})") from error


def _evaluate_gate(gate: Gate, result: EvaluationResult, on: str) -> GateResult:
    metric = METRICS[gate.metric]
    targets = list(dict.fromkeys([*(target.name for target in result.config.targets), result.headline]))
    target = gate.target or result.headline
    if target not in targets:
        raise ConfigError(f"gate {gate.metric}: " + unknown_name("target", target, targets))
    summary = result.statistics(target, gate.metric)
    value = {
        "mean": summary.mean,
        "ci-low": summary.ci_low if metric.higher_is_better else summary.ci_high,
        "worst": _worst_value(gate.metric, target, result),
    }[on]
    holds = value >= gate.limit if metric.higher_is_better else value <= gate.limit
    sign = ">=" if metric.higher_is_better else "<="
    note = f"n = {summary.used}/{summary.total}"
    return GateResult(f"{gate.metric} {sign} {gate.limit:g} ({on}, {target})", value, bool(holds), note)


def _worst_value(metric: str, target: str, result: EvaluationResult) -> float:
    """Worst value of any case; NaN if a case has none, because it might have been worse."""
    targets = [target] if target != result.headline else [item.name for item in result.config.targets]
    scored = [name for name in targets if name not in result.absent]
    values = [get_score(case, name).values[metric] for case in result.cases for name in scored]
    if not values or any(math.isnan(value) for value in values):
        return math.nan
    return min(values) if METRICS[metric].higher_is_better else max(values)


def _reason_incomparable(result: EvaluationResult, baseline: Mapping[str, Any]) -> str:
    """Why two results cannot be compared; "" if they can."""
    cases, baseline_cases = (
        {case.pair.truth.case for case in result.cases},
        {case["case"] for case in baseline["cases"]},
    )
    if cases != baseline_cases:
        return f"other cases: {len(cases - baseline_cases)} are new, {len(baseline_cases - cases)} are gone"
    if result.config.policy.to_json() != baseline["policy"]:
        return "made with another policy"
    return ""
