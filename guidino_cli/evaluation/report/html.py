"""The HTML page of a report: tables, distributions, and the worst, median and best cases as pictures."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from guidino_cli import __version__
from guidino_cli.errors import DataError
from guidino_cli.evaluation.cases import Pairing
from guidino_cli.evaluation.gates import GateResult
from guidino_cli.evaluation.masks import UnexpectedValueError
from guidino_cli.evaluation.report.pictures import draw_case
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
from guidino_cli.evaluation.statistics import SummaryStatistics
from guidino_cli.evaluation.summary import EvaluationResult, case_metric, ranking_metric
from guidino_cli.evaluation.types import CaseResult
from guidino_cli.html import Markup, render
from guidino_cli.metrics import METRICS
from guidino_cli.plots.instances import INSTANCE_LEGEND
from guidino_cli.plots.planes import CONVENTION
from guidino_cli.plots.report import OVERLAY_LEGEND, data_uri, histogram_svg
from guidino_cli.progress import pluralize

_BOXES = 4
_PROBLEMS = 20
_EXAMPLES = 3
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
        planes_note=_note_on_pictures(result),
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
    if any(case.scores[0].instances is not None for case in result.cases):
        return INSTANCE_LEGEND
    several = len(result.config.targets) > 1
    return {name: colour for name, colour in OVERLAY_LEGEND.items() if several or name != "wrong class"}


def _note_on_pictures(result: EvaluationResult) -> str:
    """Note on how to read pictures of volumes or instances; "" for other images."""
    if any(case.scores[0].instances is not None for case in result.cases):
        return "left: true instances by what became of them; right: predicted instances, with the same colours"
    has_volumes = any(case.shape is not None and len(case.shape) == 3 for case in result.cases)
    return CONVENTION if has_volumes else ""


def _examples(result: EvaluationResult) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Three groups of pictures with their titles; cases without a usable prediction are listed elsewhere."""
    metric = ranking_metric(result)
    drawable = [case for case in result.listed_cases() if not case.is_problem]
    ranked = sorted(drawable, key=lambda case: goodness(case, metric, result))
    middle = max(0, len(ranked) // 2 - 1)
    groups = {
        "worst": ranked[:_EXAMPLES],
        "median": ranked[middle : middle + _EXAMPLES],
        "best": ranked[::-1][:_EXAMPLES],
    }
    # Of few cases some are in several groups.
    drawn: dict[str, dict[str, Any]] = {}
    for name, cases in groups.items():
        for case in cases:
            if case.pair.truth.case not in drawn:
                drawn[case.pair.truth.case] = _example(case, result)
        yield f"{name} by {METRICS[metric].label}", [drawn[case.pair.truth.case] for case in cases]


def _example(case: CaseResult, result: EvaluationResult) -> dict[str, Any]:
    values = (
        f"{metric_label(name, result.unit)} {format_metric(case_metric(case, name, result), name)}"
        for name in result.config.metrics[:3]
    )
    lines = [", ".join(values), *([case.note] if case.note else [])]
    name = case.pair.truth.case
    try:
        picture = draw_case(case, result)
    except (DataError, UnexpectedValueError, MemoryError) as error:
        return {"case": name, "lines": [*lines, str(error)], "uri": "", "is_volume": False}
    lines += [picture.note] if picture.note else []
    uri = data_uri(picture.image, kind="png")
    return {"case": name, "lines": lines, "uri": uri, "is_volume": picture.is_volume}


def _case_headings(result: EvaluationResult) -> list[str]:
    return ["case", "target", "status", *(metric_label(name, result.unit) for name in result.config.metrics), "note"]


def _case_rows(result: EvaluationResult) -> Iterator[list[str]]:
    for case in result.listed_cases()[:_TABLE_CASES]:
        for score in case.scores:
            values = [format_metric(score.values[name], name) for name in result.config.metrics]
            yield [case.pair.truth.case, score.target, score.status.replace("_", " "), *values, case.note]
