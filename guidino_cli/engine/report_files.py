"""The result as text: tidy CSV tables and JSON, with everything a reader needs to recompute or doubt a figure."""

import csv
import hashlib
import io
import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from guidino_cli import __version__
from guidino_cli.engine.evaluation import Evaluation, pooled_figures
from guidino_cli.engine.pairing import Pairing
from guidino_cli.engine.scoring import CaseResult, Score
from guidino_cli.engine.statistics import RESAMPLES, Summary
from guidino_cli.metrics import METRICS

SCHEMA = 1

DEFINITIONS = {
    "pooled": "95th percentile of the border-to-border distances of both directions pooled (medpy)",
    "max": "larger of the two directed 95th percentiles, border to border (MONAI, Metrics Reloaded)",
    "to-mask": "95th percentile of both directions pooled, border to mask (GuiDINO authors' code)",
}


def per_case_csv(evaluation: Evaluation) -> str:
    """One row per case and target; an empty field is a figure that the policy leaves out or that does not exist."""
    names = [*evaluation.job.metrics]
    header = ["case", "target", "status", *names, "tp", "fp", "fn", "tn", "unit", "spacing", "size"]
    rows = ([*_case_row(case, score, names)] for case in evaluation.cases for score in case.scores)
    return _csv([*header, "prediction", "truth", "note"], rows)


def summary_csv(evaluation: Evaluation) -> str:
    """One row per target and figure."""
    header = ["target", "metric", "unit", "n_used", "n_total", "mean", "std", "median", "q25", "q75", "min", "max"]
    rows = (
        [line.target, line.metric, unit_of(line.metric, evaluation), *_figures(line.summary)]
        for line in evaluation.lines
    )
    return _csv([*header, "ci_low", "ci_high"], rows)


def to_json(
    evaluation: Evaluation, pairing: Pairing, *, origin: str, command: Sequence[str], hashes: bool = True
) -> dict[str, Any]:
    """Everything, for machines. NaN becomes null."""
    job = evaluation.job
    content = {
        "schema": SCHEMA,
        "guidino": __version__,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "scipy", "pillow")},
        "command": list(command),
        "truth": origin,
        "truth_values": job.truth.rule.sentence,
        "prediction_values": job.predictions.rule.sentence,
        "ignore_label": job.truth.ignore,
        "pairing": {
            "rule": pairing.rule,
            "extra_predictions": [str(path) for path in pairing.extra],
            "warnings": pairing.warnings,
        },
        "policy": job.policy.to_json(),
        "definitions": {
            "hd95": DEFINITIONS[job.policy.hd95],
            "border": "pixels with a 4- (6-) neighbour outside the mask; beyond the image is outside",
            "nsd_tolerance": job.tolerance,
            "std": "n - 1",
            "interval": f"95 % percentile bootstrap of the mean, {RESAMPLES} draws of cases",
        },
        "unit": evaluation.unit,
        "resample": "nearest" if job.resample else None,
        "counts": status_counts(evaluation),
        "absent_targets": evaluation.absent,
        "headline": evaluation.headline,
        "summary": [_summary_json(evaluation, line.target, line.metric, line.summary) for line in evaluation.lines],
        "pooled": {name: pooled_figures(counts) | vars(counts) for name, counts in evaluation.pooled.items()},
        "cases": [_case_json(case, hashes=hashes) for case in evaluation.cases],
    }
    return _without_nan(content)


def status_counts(evaluation: Evaluation) -> dict[str, int]:
    """Cases by what happened: total, scored, missing, failed, and rows where masks are empty."""
    problems = evaluation.problems()
    rows = [score.status for case in evaluation.cases for score in case.scores]
    missing = sum(case.pair.prediction is None and case.shape is not None for case in problems)
    return {
        "cases": len(evaluation.cases),
        "scored": len(evaluation.cases) - len(problems),
        "missing": missing,
        "failed": len(problems) - missing,
        "both_empty": rows.count("both_empty"),
        "truth_empty": rows.count("truth_empty"),
        "prediction_empty": rows.count("prediction_empty"),
    }


def unit_of(metric: str, evaluation: Evaluation) -> str:
    """Unit of a figure: mm or px for distances, nothing otherwise."""
    return evaluation.unit if METRICS[metric].kind == "distance" else ""


def dump_json(content: Mapping[str, Any]) -> str:
    """JSON text of a report."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _case_row(case: CaseResult, score: Score, names: Sequence[str]) -> list[str]:
    counts = score.counts
    pixels = [""] * 4 if counts is None else [str(part) for part in (counts.tp, counts.fp, counts.fn, counts.tn)]
    spacing = "x".join(f"{step:.6g}" for step in case.spacing or ())
    size = "x".join(map(str, case.shape or ()))
    figures = [number(score.values[name]) for name in names]
    files = [str(case.pair.prediction or ""), str(case.pair.truth.path)]
    return [
        case.pair.truth.case, score.target, score.status, *figures, *pixels, case.unit, spacing, size, *files, case.note
    ]  # fmt: skip


def _figures(summary: Summary) -> list[str]:
    parts = (summary.mean, summary.std, summary.median, summary.q25, summary.q75, summary.smallest, summary.largest)
    ends = (summary.ci_low, summary.ci_high)
    return [str(summary.used), str(summary.total), *(number(part) for part in (*parts, *ends))]


def number(value: float) -> str:
    """A figure for a CSV, to the last digit; "" for NaN."""
    return "" if math.isnan(value) else repr(float(value))


def _summary_json(evaluation: Evaluation, target: str, metric: str, summary: Summary) -> dict[str, Any]:
    return {"target": target, "metric": metric, "unit": unit_of(metric, evaluation), **vars(summary)}


def _case_json(case: CaseResult, *, hashes: bool) -> dict[str, Any]:
    truth = case.pair.truth
    files = {"prediction": case.pair.prediction, "truth": truth.path}
    return {
        "case": truth.case,
        "size": case.shape,
        "spacing": case.spacing,
        "note": case.note,
        **{name: None if path is None else str(path) for name, path in files.items()},
        **({f"{name}_sha256": _hash(path) for name, path in files.items()} if hashes else {}),
        "scores": [_score_json(score) for score in case.scores],
    }


def _score_json(score: Score) -> dict[str, Any]:
    counts = {} if score.counts is None else vars(score.counts)
    return {"target": score.target, "status": score.status} | score.values | counts


def _hash(path: Path | None) -> str | None:
    try:
        return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None if math.isnan(content) else str(content)
    return content
