"""Scores, tests, distributions and worst cases on the page of `guidino report`."""

from collections.abc import Iterator, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Any

from guidino_cli.commands.report_figures import embed_figure, read_examples
from guidino_cli.commands.report_inputs import ReportedRun
from guidino_cli.evaluation.comparison import PairedComparison
from guidino_cli.evaluation.report.comparison import CAVEATS, EXPLAINED_TESTS, HEADINGS, comparison_tables
from guidino_cli.evaluation.report.text import TableBlock, format_metric, metric_label
from guidino_cli.evaluation.stored import StoredEvaluation, compare_stored
from guidino_cli.html import Markup
from guidino_cli.metrics import METRICS
from guidino_cli.plots.report import OVERLAY_LEGEND, PairedDifferences, histogram_svg, plot_paired_differences
from guidino_cli.progress import pluralize


def score_values(evaluations: Sequence[StoredEvaluation], runs: Sequence[ReportedRun]) -> dict[str, Any]:
    """Values of the template about evaluations; empty lists without one."""
    comparisons, reasons = compare_stored(evaluations)
    return {
        "warnings": [*_unit_warning(evaluations), *(line for item in evaluations for line in _warnings(item))],
        "score_headings": ["metric", *(item.name for item in evaluations)],
        "scores": _score_blocks(evaluations),
        "sources": [_source(item, runs) for item in evaluations],
        "comparisons": _comparison_tables(comparisons, evaluations),
        "comparison_headings": HEADINGS,
        "not_compared": reasons,
        "test_notes": [
            f"{EXPLAINED_TESTS}; Holm: corrected over all rows of this page",
            *_truth_notes(comparisons, evaluations),
            *_group_note(evaluations),
            *CAVEATS,
        ],
        "differences": _differences_figure(comparisons, evaluations),
        "histograms": list(_histograms(evaluations)),
        "legend": _legend(evaluations),
        "examples": [(item.name, read_examples(item.path / "report.html")) for item in evaluations],
        "rules": _grouped_rules(evaluations),
    }


def evaluation_boxes(evaluations: Sequence[StoredEvaluation]) -> Iterator[dict[str, str]]:
    """The mean of each evaluation with its interval, for the top of the page: Dice if it was measured."""
    for item in evaluations:
        metric = "dice" if "dice" in item.metrics else item.metrics[0]
        line = item.line(metric)
        yield {
            "value": format_metric(line.get("mean", nan), metric),
            "label": f"{metric_label(metric, item.unit)}, {item.headline}",
            "note": f"95 % CI {_interval(line, metric)}, n {_count(line)}",
            "name": item.name,
        }


def _warnings(item: StoredEvaluation) -> Iterator[str]:
    counts = item.report.get("counts", {})
    for kind in ("missing", "failed"):
        if counts.get(kind):
            yield f"{item.name}: {pluralize(counts[kind], 'case')} {kind}, which count by the policy"
    yield from (f"{item.name}: {line}" for line in item.report.get("pairing", {}).get("warnings", []))
    yield from (
        f"{item.name}: gate failed: {gate['name']}" for gate in item.report.get("gates", []) if not gate["passed"]
    )


def _unit_warning(evaluations: Sequence[StoredEvaluation]) -> Iterator[str]:
    if len({item.unit for item in evaluations if item.unit}) > 1:
        units = ", ".join(f"{item.unit} in {item.name}" for item in evaluations if item.unit)
        yield f"distances have different units: {units}"


def _score_blocks(evaluations: Sequence[StoredEvaluation]) -> list[tuple[str, list[list[str]]]]:
    """For each target the rows of its metrics; a column for each evaluation."""
    targets = list(dict.fromkeys(target for item in evaluations for target in item.targets))
    metrics = list(dict.fromkeys(metric for item in evaluations for metric in item.metrics))
    unit = " or ".join(dict.fromkeys(item.unit for item in evaluations if item.unit))
    blocks = []
    for target in targets:
        rows = [
            [metric_label(metric, unit), *(_score_cell(item.line(metric, target), metric) for item in evaluations)]
            for metric in metrics
        ]
        blocks.append((target, rows))
    return blocks


def _score_cell(line: dict[str, float], metric: str) -> str:
    """Mean, its interval and, in a line of its own, the median."""
    if not line:
        return "-"
    mean, median = (format_metric(line.get(key, nan), metric) for key in ("mean", "median"))
    return Markup("{} ({})<br><small>median {}</small>").format(mean, _interval(line, metric), median)


def _interval(line: dict[str, float], metric: str) -> str:
    low, high = line.get("ci_low", nan), line.get("ci_high", nan)
    return f"{format_metric(low, metric)} .. {format_metric(high, metric)}" if isfinite(low) else "-"


def _count(line: dict[str, float]) -> str:
    return f"{line.get('used', nan):.0f}/{line.get('total', nan):.0f}"


def _source(item: StoredEvaluation, runs: Sequence[ReportedRun]) -> str:
    """By which run the masks of an evaluation were made, as far as that was recorded."""
    report = item.report
    made = report.get("created", "")
    what = f"{item.name}: masks {report.get('predictions', '')}, truth {report['truth']}"
    what += f", scored {str(made)[:16].replace('T', ' ')}" if made else ""
    origins = [_origin(record, runs) for record in report.get("runs", [])]
    return f"{what}; made by {', '.join(origins)}" if origins else f"{what}; which run made the masks was not recorded"


def _origin(record: Any, runs: Sequence[ReportedRun]) -> str:
    if not isinstance(record, dict) or "run" not in record:
        return str(record)
    # Imports torch, which a report without such masks does not need.
    from guidino_cli.engine.prediction.ensemble import weights_hash

    for run in runs:
        hashed = weights_hash(run.path) if (run.path / "best" / "model.safetensors").is_file() else ""
        if hashed and hashed == record.get("weights"):
            return f"{run.name} (weights {hashed[:12]})"
        if Path(str(record["run"])).resolve() == run.path.resolve():
            if not hashed or not record.get("weights"):
                return f"{run.name}, of which the weights are not there to be compared"
            return f"{run.name} WITH OTHER WEIGHTS: it was trained further since"
    return f"{record['run']}, which is none of the runs of this page"


def _comparison_tables(
    comparisons: Sequence[PairedComparison], evaluations: Sequence[StoredEvaluation]
) -> dict[str, list[TableBlock]]:
    """Tables of all pairs; both evaluations of a pair have one unit, but not all pairs need have the same."""
    tables: dict[str, list[TableBlock]] = {}
    for unit in dict.fromkeys(_unit_of(item, evaluations) for item in comparisons):
        tables |= comparison_tables([item for item in comparisons if _unit_of(item, evaluations) == unit], unit)
    return tables


def _unit_of(comparison: PairedComparison, evaluations: Sequence[StoredEvaluation]) -> str:
    own = (item.unit for item in evaluations if item.name in {comparison.first, comparison.second})
    return next(filter(None, own), "")


def _truth_notes(comparisons: Sequence[PairedComparison], evaluations: Sequence[StoredEvaluation]) -> Iterator[str]:
    """Notes on pairs of evaluations with different paths of the truth; reports do not hold the masks to compare."""
    truths = {item.name: str(item.report["truth"]) for item in evaluations}
    for first, second in dict.fromkeys((item.first, item.second) for item in comparisons):
        if truths[first] != truths[second]:
            yield (
                f"Truth of {first}: {truths[first]}; of {second}: {truths[second]}. The comparison holds only if these "
                "are the same masks."
            )


def _group_note(evaluations: Sequence[StoredEvaluation]) -> Iterator[str]:
    if any(item.report.get("definitions", {}).get("interval_groups") for item in evaluations):
        yield (
            "The cases were scored in groups (--group), but tests and intervals of differences on this page are over "
            "cases; `guidino compare --group` takes groups."
        )


def _differences_figure(comparisons: Sequence[PairedComparison], evaluations: Sequence[StoredEvaluation]) -> str:
    """The sorted differences of the headline's Dice, or its first metric; "" without a comparison."""
    main = [item for item in comparisons if item.target == evaluations[0].headline]
    names = [item.metric for item in main]
    metric = "dice" if "dice" in names else names[0] if names else ""
    panels = [
        PairedDifferences(
            first=item.first,
            second=item.second,
            label=metric_label(metric, _unit_of(item, evaluations)),
            values=item.known,
            higher_is_better=METRICS[metric].higher_is_better,
            mean=item.mean,
            ci=(item.ci_low, item.ci_high),
        )
        for item in main
        # An infinite difference has no bar.
        if item.metric == metric and isfinite(item.mean)
    ]
    return embed_figure(plot_paired_differences(panels)) if panels else ""


def _histograms(evaluations: Sequence[StoredEvaluation]) -> Iterator[Markup]:
    for item in evaluations:
        for metric in item.metrics:
            line = item.line(metric)
            name = f"{metric_label(metric, item.unit)}, {item.name}" if len(evaluations) > 1 else ""
            yield histogram_svg(
                list(item.column(metric, item.headline).values()),
                title=name or metric_label(metric, item.unit),
                is_share=METRICS[metric].kind == "share",
                mean=line.get("mean", nan),
                median=line.get("median", nan),
            )


def _legend(evaluations: Sequence[StoredEvaluation]) -> dict[str, tuple[int, int, int]]:
    """The colours of the pictures by meaning."""
    several = any(len(item.targets) > 1 for item in evaluations)
    return {name: colour for name, colour in OVERLAY_LEGEND.items() if several or name != "wrong class"}


def _grouped_rules(evaluations: Sequence[StoredEvaluation]) -> list[tuple[str, list[str]]]:
    """Names of the evaluations with the same rules, and these."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for item in evaluations:
        groups.setdefault(tuple(_rules(item)), []).append(item.name)
    return [(", ".join(names), list(lines)) for lines, names in groups.items()]


def _rules(item: StoredEvaluation) -> list[str]:
    definitions, policy = item.report.get("definitions", {}), item.report["policy"]
    lines = []
    if "hd95" in item.metrics and "hd95" in definitions:
        lines.append(f"HD95 in {item.unit}: {definitions['hd95']}")
    if "interval" in definitions:
        groups = definitions.get("interval_groups")
        lines.append(f"intervals: {definitions['interval']}" + (f" of {groups} groups" if groups else " over cases"))
    lines.append("policy " + ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in policy.items()))
    return lines
