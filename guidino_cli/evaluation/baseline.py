"""Comparison of a result with an earlier report: whether they may be compared, and whether a share fell."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.evaluation.gates import GateResult
from guidino_cli.evaluation.summary import EvaluationResult
from guidino_cli.evaluation.types import ScoringConfig
from guidino_cli.json_files import read_json_object, require_type
from guidino_cli.metrics import LESION_METRICS, METRICS


@dataclass(frozen=True)
class Baseline:
    """Values of an earlier report with which a new one is compared.

    Attributes:
        path: Its report.json.
        cases: Names of its cases.
        headline: Target whose mean is the headline result.
        means: Mean of the headline by metric; None for null, infinity and anything else that is no number.
        policy: Rules for empty, missing and failed masks.
        settings: Options that change the meaning of a metric, as far as they were recorded.
    """

    path: Path
    cases: frozenset[str]
    headline: str
    means: Mapping[str, float | None]
    policy: Mapping[str, Any]
    settings: Mapping[str, Any]


def load_baseline(path: Path, metrics: Sequence[str]) -> Baseline:
    """Read a `report.json`, or the one in a report folder.

    Args:
        path: The file or folder.
        metrics: Metrics that will be measured; a metric of the baseline that is left out might have become worse.

    Raises:
        DataError: The file is missing, damaged or not a report.
        ConfigError: It has a metric that is not among `metrics`.
    """
    path = path / "report.json" if path.is_dir() else path
    report = read_json_object(path, hint=_HINT)
    require_type(report, _Report, source=path, hint=_HINT)
    lines = [line for line in report["summary"] if line["target"] == report["headline"]]
    baseline = Baseline(
        path=path,
        cases=frozenset(case["case"] for case in report["cases"]),
        headline=report["headline"],
        means={line["metric"]: _finite(line["mean"]) for line in lines},
        policy=report["policy"],
        settings=_settings(report),
    )
    _require_metrics(path, [line["metric"] for line in report["summary"]], metrics)
    return baseline


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


def check_baseline(result: EvaluationResult, baseline: Baseline, max_drop: float) -> list[GateResult]:
    """Check that the mean of no share of the headline is more than `max_drop` below that of an earlier report.

    A value that is missing, infinite or no number fails, and so does a report of other cases or made with other
    settings.
    """
    reason = _reason_incomparable(result, baseline)
    results = []
    for metric in result.config.metrics:
        if METRICS[metric].kind != "share" or metric not in baseline.means:
            continue
        before, now = baseline.means[metric], result.statistics(result.headline, metric).mean
        drop = math.nan if before is None or reason else before - now
        passed = math.isfinite(drop) and drop <= max_drop
        note = reason or f"{before if before is None else round(before, 4)} before, {now:.4f} now"
        results.append(GateResult(f"{metric} drop <= {max_drop:g} (mean, {result.headline})", drop, passed, note))
    note = f"{baseline.path.name} has none of these metrics"
    return results or [GateResult(f"drop <= {max_drop:g} (mean, {result.headline})", math.nan, False, note)]


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
        "ignore_label": config.truth.ignore,
        "resample": options.resample,
        "ignore_headers": options.ignore_headers,
        **({} if options.segment is None else {"segment": options.segment}),
        "only_predicted": options.only_predicted,
    }


def _finite(value: object) -> float | None:
    """A number of a report that may be compared; None for null, infinity and anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300
    return float(value) if is_number else None  # type: ignore[arg-type]


def _require_metrics(path: Path, before: Sequence[str], metrics: Sequence[str]) -> None:
    unknown = [name for name in before if name not in METRICS]
    if unknown:
        raise DataError(f"{path}: has {unknown[0]}, which this version does not measure; make the report anew")
    left_out = list(dict.fromkeys(name for name in before if name not in metrics))
    if left_out:
        wanted = ",".join(dict.fromkeys([*metrics, *left_out]))
        raise ConfigError(
            f"--baseline {path}: has {', '.join(left_out)}, not among the metrics asked for; give --metrics {wanted}"
        )


def _reason_incomparable(result: EvaluationResult, baseline: Baseline) -> str:
    """Why two results cannot be compared; "" if they can."""
    cases = {case.pair.truth.case for case in result.cases}
    if cases != baseline.cases:
        return f"other cases: {len(cases - baseline.cases)} are new, {len(baseline.cases - cases)} are gone"
    if result.config.policy.to_json() != baseline.policy:
        return "made with another policy or definition of HD95"
    if result.headline != baseline.headline:
        return f"made with other classes: it is about {baseline.headline}, this about {result.headline}"
    now, metrics = scoring_settings(result.config), set(result.config.metrics)
    if "nsd" not in metrics:
        now.pop("tolerance")
    if not metrics & LESION_METRICS:
        now.pop("lesion_iou")
    before = baseline.settings
    changed = [name for name, value in now.items() if name in before and before[name] != value]
    if changed:
        listed = ", ".join(f"{name} {before[name]}, now {now[name]}" for name in changed)
        return f"made with other settings: {listed}"
    return ""


def _settings(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of a report; version 0.1.0 wrote them in several places, and did not record some."""
    if "settings" in report:
        return dict(report["settings"])
    known = {name: report[name] for name in ("ignore_label", "resample", "ignore_headers") if name in report}
    definitions = report.get("definitions")
    if isinstance(definitions, dict):
        names = (("tolerance", "nsd_tolerance"), ("lesion_iou", "lesion_iou"))
        known |= {name: definitions[key] for name, key in names if key in definitions}
    return known
