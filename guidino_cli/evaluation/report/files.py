"""CSV tables and JSON of an evaluation, with everything needed to recompute a metric."""

import json
import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from guidino_cli import __version__
from guidino_cli.evaluation.baseline import scoring_settings
from guidino_cli.evaluation.cases import Pairing
from guidino_cli.evaluation.gates import GateResult
from guidino_cli.evaluation.report.provenance import Provenance
from guidino_cli.evaluation.report.text import DEFINITIONS
from guidino_cli.evaluation.statistics import BOOTSTRAP_RESAMPLES, SummaryStatistics
from guidino_cli.evaluation.summary import (
    EvaluationResult,
    SummaryRow,
    cases_without_truth,
    compared_instances,
    count_statuses,
    pool_all_lesions,
    pooled_lesion_scores,
    pooled_overlap,
    summarize_measured_distances,
)
from guidino_cli.evaluation.types import CaseResult, Score
from guidino_cli.files import file_sha256
from guidino_cli.metrics import LESION_METRICS, METRICS
from guidino_cli.metrics.compiled import load_kernel
from guidino_cli.metrics.instances import pool_instances
from guidino_cli.metrics.lesions import Lesions, recall_by_size
from guidino_cli.tables import to_csv

SCHEMA = 1


def per_case_csv(evaluation: EvaluationResult) -> str:
    """One row per case and target; an empty field is a value that the policy leaves out or that does not exist."""
    names = [*evaluation.config.metrics]
    objects = ["objects_true", "objects_found", "objects_extra"] if LESION_METRICS & set(names) else []
    header = ["case", "target", "status", *names, "tp", "fp", "fn", "tn", *objects, "unit", "spacing", "size"]
    rows = ([*_case_row(case, score, names)] for case in evaluation.listed_cases() for score in case.scores)
    return to_csv([*header, "prediction", "truth", "note"], rows)


def summary_csv(evaluation: EvaluationResult) -> str:
    """One row per target and metric; rows of strata follow, with the name of the stratum in the first column."""
    numbers = ["mean", "std", "median", "q25", "q75", "min", "max", "ci_low", "ci_high"]
    blocks = {"": evaluation.rows} | evaluation.strata
    rows = (
        [stratum, row.target, row.metric, metric_unit(row.metric, evaluation), *_statistics_row(row.statistics)]
        for stratum, rows in blocks.items()
        for row in rows
    )
    return to_csv(["stratum", "target", "metric", "unit", "n_used", "n_total", *numbers], rows)


def lesions_csv(evaluation: EvaluationResult) -> str:
    """Recall of the true objects of all cases: one row per target and quartile of their sizes in pixels."""
    rows = (
        [target, str(part.smallest), str(part.largest), str(part.found), str(part.total), format_number(part.recall)]
        for target, lesions in pool_all_lesions(evaluation).items()
        for part in recall_by_size(lesions)
    )
    return to_csv(["target", "smallest", "largest", "found", "total", "recall"], rows)


def instances_csv(evaluation: EvaluationResult) -> str:
    """One row per true instance: what became of it, and the predicted instances that are its parts."""
    rows = (
        [case, str(item.number), str(item.pixels), item.status, " ".join(map(str, item.parts))]
        for case, comparison in compared_instances(evaluation).items()
        for item in comparison.true
    )
    return to_csv(["case", "instance", "pixels", "status", "parts"], rows)


def to_json(
    evaluation: EvaluationResult,
    pairing: Pairing,
    provenance: Provenance,
    *,
    command: Sequence[str],
    gates: Sequence[GateResult] = (),
) -> dict[str, Any]:
    """Content of report.json; NaN becomes null."""
    config = evaluation.config
    content = {
        "schema": SCHEMA,
        "guidino": __version__,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "scipy", "pillow")},
        "command": list(command),
        "created": provenance.created,
        "predictions": provenance.predictions,
        "runs": list(provenance.runs),
        "truth": provenance.truth,
        "truth_values": config.truth.rule.sentence,
        "prediction_values": config.predictions.rule.sentence,
        "ignore_label": config.truth.ignore,
        "pairing": {
            "rule": pairing.rule,
            "extra_predictions": [str(path) for path in pairing.extra],
            "of_other_splits": [str(path) for path in pairing.other_splits],
            "left_out": pairing.left_out,
            "warnings": [*pairing.warnings, *pairing.coverage],
        },
        "policy": config.policy.to_json(),
        "settings": scoring_settings(config),
        "definitions": {
            "hd95": DEFINITIONS[config.policy.hd95],
            "border": "pixels with a 4- (6-) neighbour outside the mask; beyond the image is outside",
            "nsd_tolerance": config.options.tolerance,
            "std": "n - 1",
            "interval": f"95 % percentile bootstrap of the mean, {BOOTSTRAP_RESAMPLES} draws",
            "interval_groups": evaluation.group_count or None,
            "lesion_iou": config.options.lesion_iou,
        },
        "backend": "medpy" if config.medpy else "compiled" if load_kernel() is not None else "numpy",
        "medpy_deviation": max(score.deviation for case in evaluation.cases for score in case.scores),
        "unit": evaluation.unit,
        "resample": config.options.resample,
        "ignore_headers": config.options.ignore_headers,
        "counts": count_statuses(evaluation)
        | {"case_class_pairs": sum(len(case.scores) for case in evaluation.cases)}
        | {"left_out": len(pairing.left_out), "extra_predictions": len(pairing.extra)},
        "distances": vars(summarize_measured_distances(evaluation)),
        "absent_targets": evaluation.absent,
        **({"cases_without_truth": without_truth} if (without_truth := cases_without_truth(evaluation)) else {}),
        "headline": evaluation.headline,
        "summary": [_summary_json(evaluation, row) for row in evaluation.rows],
        "strata_by": evaluation.strata_by,
        "strata": {name: [_summary_json(evaluation, row) for row in rows] for name, rows in evaluation.strata.items()},
        "gates": [vars(gate) for gate in gates],
        "lesions": _lesions_json(evaluation),
        **_instances_json(evaluation),
        "pooled": {name: pooled_overlap(counts) | vars(counts) for name, counts in evaluation.pooled.items()},
        "cases": [_case_json(case) for case in evaluation.listed_cases()],
    }
    return replace_nan(content)


def case_records(evaluation: EvaluationResult) -> list[dict[str, Any]]:
    """One record for each case and target; a value that the policy leaves out is NaN."""
    return [
        {
            "case": case.pair.truth.case,
            **_score_json(score),
            "unit": case.unit,
            "spacing": case.spacing,
            "size": case.shape,
            "prediction": None if case.pair.prediction is None else str(case.pair.prediction),
            "truth": str(case.pair.truth.path),
            "note": case.note,
        }
        for case in evaluation.listed_cases()
        for score in case.scores
    ]


def summary_records(evaluation: EvaluationResult) -> list[dict[str, Any]]:
    """One record for each target and metric, then those of strata; "stratum" is "" for all cases."""
    blocks = {"": evaluation.rows} | evaluation.strata
    return [{"stratum": stratum} | _summary_json(evaluation, row) for stratum, rows in blocks.items() for row in rows]


def metric_unit(metric: str, evaluation: EvaluationResult) -> str:
    """Unit of a metric: mm or px for distances, ml for volumes, else ""."""
    return {"distance": evaluation.unit, "volume": "ml"}.get(METRICS[metric].kind, "")


def dump_json(content: Mapping[str, Any]) -> str:
    """Serialize the content of a report."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _case_row(case: CaseResult, score: Score, names: Sequence[str]) -> list[str]:
    counts = score.counts
    pixels = [""] * 4 if counts is None else [str(part) for part in (counts.tp, counts.fp, counts.fn, counts.tn)]
    objects = _objects(score.lesions) if LESION_METRICS & set(names) else []
    spacing = "x".join(f"{step:.6g}" for step in case.spacing or ())
    size = "x".join(map(str, case.shape or ()))
    values = [format_number(score.values[name]) for name in names]
    files = [str(case.pair.prediction or ""), str(case.pair.truth.path)]
    return [
        case.pair.truth.case, score.target, score.status, *values, *pixels, *objects, case.unit, spacing, size, *files,
        case.note,
    ]  # fmt: skip


def _objects(lesions: Lesions | None) -> list[str]:
    if lesions is None:
        return [""] * 3
    return [str(len(lesions.found)), str(sum(lesions.found)), str(lesions.extra)]


def _statistics_row(summary: SummaryStatistics) -> list[str]:
    parts = (summary.mean, summary.std, summary.median, summary.q25, summary.q75, summary.smallest, summary.largest)
    ends = (summary.ci_low, summary.ci_high)
    return [str(summary.used), str(summary.total), *(format_number(part) for part in (*parts, *ends))]


def format_number(value: float) -> str:
    """A value for a CSV with all its digits; "" for NaN."""
    return "" if math.isnan(value) else repr(float(value))


def _summary_json(evaluation: EvaluationResult, row: SummaryRow) -> dict[str, Any]:
    unit = metric_unit(row.metric, evaluation)
    return {"target": row.target, "metric": row.metric, "unit": unit, **vars(row.statistics)}


def _instances_json(evaluation: EvaluationResult) -> dict[str, Any]:
    """Entry "instances": what became of all true instances; {} without an instance metric."""
    compared = compared_instances(evaluation)
    return {"instances": pool_instances(list(compared.values()))} if compared else {}


def _lesions_json(evaluation: EvaluationResult) -> dict[str, Any]:
    """Lesion metrics of the objects of all cases, and recall by size."""
    content, scores = {}, pooled_lesion_scores(evaluation)
    for target, lesions in pool_all_lesions(evaluation).items():
        content[target] = scores[target] | {
            "true": len(lesions.sizes),
            "found": sum(lesions.found),
            "extra": lesions.extra,
            "recall_by_size": [vars(part) | {"recall": part.recall} for part in recall_by_size(lesions)],
        }
    return content


def _case_json(case: CaseResult) -> dict[str, Any]:
    truth = case.pair.truth
    files = {"prediction": case.pair.prediction, "truth": truth.path}
    return {
        "case": truth.case,
        "size": case.shape,
        "spacing": case.spacing,
        "note": case.note,
        **{name: None if path is None else str(path) for name, path in files.items()},
        **{f"{name}_sha256": _hash(path) for name, path in files.items()},
        "scores": [_score_json(score) for score in case.scores],
    }


def _score_json(score: Score) -> dict[str, Any]:
    counts = {} if score.counts is None else vars(score.counts)
    return {"target": score.target, "status": score.status} | score.values | counts


def _hash(path: Path | None) -> str | None:
    try:
        return None if path is None else file_sha256(path)
    except OSError:
        return None


def replace_nan(content: Any) -> Any:
    """Replace NaN by None and infinity by text, recursively: JSON has neither."""
    if isinstance(content, dict):
        return {key: replace_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [replace_nan(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None if math.isnan(content) else str(content)
    return content
