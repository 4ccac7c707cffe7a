"""The HTML page of a report: tables, distributions, and the worst, median and best cases as overlays."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from guidino_cli import __version__
from guidino_cli.data.images import read_image
from guidino_cli.data.volumes.nifti import is_volume
from guidino_cli.errors import DataError
from guidino_cli.evaluation.cases import Pairing
from guidino_cli.evaluation.gates import GateResult
from guidino_cli.evaluation.masks import Mask, UnexpectedValueError
from guidino_cli.evaluation.report.provenance import Provenance
from guidino_cli.evaluation.report.text import (
    HEADINGS,
    SIZE_HEADINGS,
    caption,
    format_metric,
    goodness,
    metric_label,
    size_rows,
    stratum_title,
    table_rows,
)
from guidino_cli.evaluation.scoring import read_aligned_prediction
from guidino_cli.evaluation.summary import EvaluationResult, SummaryStatistics, case_metric, ranking_metric
from guidino_cli.evaluation.types import CaseResult
from guidino_cli.html import Markup, render
from guidino_cli.metrics import METRICS
from guidino_cli.plots.report import OVERLAY_LEGEND, data_uri, downsample, draw_overlay, histogram_svg
from guidino_cli.progress import pluralize

_BOXES = 4
_PROBLEMS = 20
_EXAMPLES = 3
_LONGEST_SIDE = 420
"""Pixels of an overlay on the page."""
_TABLE_CASES = 2000
"""Cases in the page's own table; per_case.csv always has all."""


def to_html(
    result: EvaluationResult, pairing: Pairing, provenance: Provenance, gates: Sequence[GateResult] = ()
) -> str:
    """Render the page; it loads nothing from elsewhere."""
    problems = result.problems()
    return render(
        "evaluation.html.j2",
        version=__version__,
        several_targets=len(result.config.targets) > 1,
        headline=f"Mean over {pluralize(len(result.cases), 'case')}: {result.headline}",
        origin=provenance.lines(),
        warnings=[*pairing.coverage, *pairing.warnings],
        boxes=[_box(name, result) for name in result.config.metrics[:_BOXES]],
        notes=[*caption(result), *_sources(result, pairing)],
        gates=gates,
        problem_count=f"{len(problems)} of {pluralize(len(result.cases), 'case')}",
        problems=[f"{case.pair.truth.case}: {case.note}" for case in problems[:_PROBLEMS]]
        + ([f"and {len(problems) - _PROBLEMS} more, see per_case.csv"] if len(problems) > _PROBLEMS else []),
        headings=HEADINGS,
        summary=table_rows(result),
        size_headings=SIZE_HEADINGS,
        sizes=size_rows(result),
        strata=[(stratum_title(result, name), table_rows(result, lines)) for name, lines in result.strata.items()],
        histograms=_histograms(result),
        legend=_legend(result),
        examples=_examples(result),
        case_headings=_case_headings(result),
        case_rows=_case_rows(result),
        omitted_cases=max(0, len(result.cases) - _TABLE_CASES),
        policy=json.dumps(result.config.policy.to_json(), indent=1),
    )


def _box(metric: str, result: EvaluationResult) -> dict[str, Any]:
    statistics = result.statistics(result.headline, metric)
    return {
        "label": metric_label(metric, result.unit),
        "mean": format_metric(statistics.mean, metric),
        "interval": _interval(statistics, metric),
        "count": f"{statistics.used}/{statistics.total}"
        + (" (cases x classes)" if len(result.config.targets) > 1 else ""),
    }


def _interval(statistics: SummaryStatistics, metric: str) -> str:
    if np.isnan(statistics.ci_low):
        return "-"
    return f"{format_metric(statistics.ci_low, metric)} to {format_metric(statistics.ci_high, metric)}"


def _sources(result: EvaluationResult, pairing: Pairing) -> list[str]:
    names = ", ".join(path.name for path in pairing.extra[:3]) + (", ..." if len(pairing.extra) > 3 else "")
    extra = f"{len(pairing.extra)} predictions without a truth: {names}" if names else "no prediction without a truth"
    return [
        f"values of the truth: {result.config.truth.rule.sentence}",
        f"values of the predictions: {result.config.predictions.rule.sentence}",
        f"names: {pairing.rule}; {extra}",
    ]


def _histograms(result: EvaluationResult) -> Iterator[Markup]:
    for target in (item.name for item in result.config.targets):
        for name in result.config.metrics:
            statistics = result.statistics(target, name)
            values = [score.values[name] for case in result.cases for score in case.scores if score.target == target]
            title = metric_label(name, result.unit) + (f", {target}" if len(result.config.targets) > 1 else "")
            yield histogram_svg(
                values,
                title=title,
                is_share=METRICS[name].kind == "share",
                mean=statistics.mean,
                median=statistics.median,
            )


def _legend(result: EvaluationResult) -> dict[str, tuple[int, int, int]]:
    """The colours of the overlays by meaning."""
    several = len(result.config.targets) > 1
    return {name: colour for name, colour in OVERLAY_LEGEND.items() if several or name != "wrong class"}


def _examples(result: EvaluationResult) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Three groups of overlays with their titles; cases without a usable prediction are listed elsewhere."""
    metric = ranking_metric(result)
    drawable = [case for case in result.listed_cases() if not case.is_problem]
    ranked = sorted(drawable, key=lambda case: goodness(case, metric, result))
    middle = max(0, len(ranked) // 2 - 1)
    groups = {
        "worst": ranked[:_EXAMPLES],
        "median": ranked[middle : middle + _EXAMPLES],
        "best": ranked[::-1][:_EXAMPLES],
    }
    for name, cases in groups.items():
        yield f"{name} by {METRICS[metric].label}", [_example(case, result) for case in cases]


def _example(case: CaseResult, result: EvaluationResult) -> dict[str, Any]:
    values = (
        f"{metric_label(name, result.unit)} {format_metric(case_metric(case, name, result), name)}"
        for name in result.config.metrics[:3]
    )
    lines = [", ".join(values), *([case.note] if case.note else [])]
    try:
        uri = data_uri(Image.fromarray(_overlay(case, result)), kind="png")
    except (DataError, UnexpectedValueError, MemoryError) as error:
        return {"case": case.pair.truth.case, "lines": [*lines, str(error)], "uri": ""}
    return {"case": case.pair.truth.case, "lines": lines, "uri": uri}


def _overlay(case: CaseResult, result: EvaluationResult) -> np.ndarray:
    """(H, W, 3) uint8; of a volume the slice across the last axis with the largest foreground."""
    truth = result.config.truth.read(case.pair.truth.path)
    prediction = read_aligned_prediction(case.pair, truth, result.config)[0]
    predicted, true = _target_labels(prediction, result), _target_labels(truth, result)
    image = None
    if truth.labels.ndim == 3:
        index = int(np.argmax(((predicted > 0) | (true > 0)).sum(axis=(0, 1))))
        predicted, true = np.rot90(predicted[..., index]), np.rot90(true[..., index])
    elif case.pair.truth.image is not None and not is_volume(case.pair.truth.image):
        image = read_image(case.pair.truth.image)[0]
        image = image if image.shape[:2] == true.shape else None
    return downsample(draw_overlay(image, predicted, true), _LONGEST_SIDE)


def _target_labels(mask: Mask, result: EvaluationResult) -> np.ndarray:
    """Labels that belong to some target; with one target of merged classes, all of them as one."""
    labels = {label for target in result.config.targets for label in target.labels}
    kept = np.where(np.isin(mask.labels, sorted(labels)), mask.labels, 0)
    return np.minimum(kept, 1) if len(result.config.targets) == 1 else kept


def _case_headings(result: EvaluationResult) -> list[str]:
    return ["case", "target", "status", *(metric_label(name, result.unit) for name in result.config.metrics), "note"]


def _case_rows(result: EvaluationResult) -> Iterator[list[str]]:
    for case in result.listed_cases()[:_TABLE_CASES]:
        for score in case.scores:
            values = [format_metric(score.values[name], name) for name in result.config.metrics]
            yield [case.pair.truth.case, score.target, score.status.replace("_", " "), *values, case.note]
