"""Quality gates: limits on metrics; one that cannot be measured fails."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from guidino_cli.errors import ConfigError, unknown_name
from guidino_cli.evaluation.summary import EvaluationResult, get_score
from guidino_cli.evaluation.types import ScoringConfig
from guidino_cli.json_files import read_json_object, require_type
from guidino_cli.metrics import LESION_METRICS, METRICS

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
        is_count: Whether the value is a number of cases or files.
    """

    name: str
    value: float
    passed: bool
    note: str
    is_count: bool = False

    @property
    def sentence(self) -> str:
        """One line for terminal, Markdown and HTML."""
        value = "nothing to compare" if math.isnan(self.value) else f"{self.value:.{0 if self.is_count else 4}f}"
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


def require_baseline_metrics(baseline: Mapping[str, Any], metrics: Sequence[str], path: Path) -> None:
    """Require that every metric of a baseline is measured again, because one left out might have become worse.

    Raises:
        ConfigError: A metric of the baseline is not among `metrics`.
    """
    before = list(dict.fromkeys(str(line["metric"]) for line in baseline["summary"]))
    left_out = [name for name in before if name not in metrics]
    if left_out:
        wanted = ",".join(dict.fromkeys([*metrics, *left_out]))
        raise ConfigError(
            f"--baseline {path}: has {', '.join(left_out)}, not among the metrics asked for; give --metrics {wanted}"
        )


def check_baseline(result: EvaluationResult, report: Path, max_drop: float) -> list[GateResult]:
    """Check that no share of the headline is more than `max_drop` below an earlier report of the same cases.

    A value that is missing, infinite or no number fails, and so does a report that was made with other settings.

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
        before, now = _finite(baseline_rows[metric]["mean"]), result.statistics(result.headline, metric).mean
        drop = math.nan if before is None or reason else before - now
        passed = math.isfinite(drop) and drop <= max_drop
        note = reason or f"{before if before is None else round(before, 4)} before, {now:.4f} now"
        results.append(GateResult(f"{metric} drop <= {max_drop:g}", drop, passed, note))
    note = f"{report.name} has none of these metrics"
    return results or [GateResult(f"drop <= {max_drop:g}", math.nan, False, note)]


def _finite(value: object) -> float | None:
    """A number of a report that may be compared; None for null, infinity and anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]


def scoring_settings(config: ScoringConfig) -> dict[str, Any]:
    """Every setting that changes the meaning of a metric; recorded in reports and compared with a baseline."""
    options = config.options
    return {
        "tolerance": options.tolerance,
        "lesion_iou": options.lesion_iou,
        "spacing": None if config.spacing is None else list(config.spacing),
        "regions": options.regions,
        "classes": options.classes,
        "pred_classes": options.pred_classes,
        "binary": options.binary,
        "threshold": options.threshold,
        "pred_threshold": options.pred_threshold,
        "ignore_label": options.ignore_label,
        "resample": options.resample,
        "ignore_headers": options.ignore_headers,
        "only_predicted": options.only_predicted,
    }


def load_report(path: Path) -> dict[str, Any]:
    """Read a `report.json`, or the one in a report folder.

    Raises:
        DataError: The file is missing or not a report.
    """
    path = path / "report.json" if path.is_dir() else path
    report = read_json_object(path, hint=_HINT)
    require_type(report, _Report, source=path, hint=_HINT)
    return report


_HINT = "give a report.json that `guidino evaluate -o` wrote"


class _SummaryLine(TypedDict):
    target: str
    metric: str
    mean: Any


class _ReportCase(TypedDict):
    case: str


class _Report(TypedDict):
    """Entries of `report.json` that are read again."""

    schema: Any
    headline: str
    policy: dict[str, Any]
    summary: list[_SummaryLine]
    cases: list[_ReportCase]
    settings: NotRequired[dict[str, Any]]


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
        return "made with another policy or definition of HD95"
    if result.headline != baseline["headline"]:
        return f"made with other classes: it is about {baseline['headline']}, this about {result.headline}"
    now, before = scoring_settings(result.config), _baseline_settings(baseline)
    metrics = set(result.config.metrics)
    if "nsd" not in metrics:
        now.pop("tolerance")
    if not metrics & LESION_METRICS:
        now.pop("lesion_iou")
    changed = [name for name, value in now.items() if name in before and before[name] != value]
    if changed:
        listed = ", ".join(f"{name} {before[name]}, now {now[name]}" for name in changed)
        return f"made with other settings: {listed}"
    return ""


def _baseline_settings(baseline: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of a report; those of version 0.1.0 stand in several places, and some were not recorded."""
    if isinstance(baseline.get("settings"), dict):
        return dict(baseline["settings"])
    known = {name: baseline[name] for name in ("ignore_label", "resample", "ignore_headers") if name in baseline}
    definitions = baseline.get("definitions")
    if isinstance(definitions, dict):
        known |= {
            name: definitions[key]
            for name, key in (("tolerance", "nsd_tolerance"), ("lesion_iou", "lesion_iou"))
            if key in definitions
        }
    return known
