"""Reports as text: rows of the summary tables, Markdown and JUnit XML."""

import math
import re
from collections.abc import Sequence
from importlib.metadata import version
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from guidino_cli.evaluation.cases import Pairing
from guidino_cli.evaluation.gates import GateResult
from guidino_cli.evaluation.report.provenance import Provenance
from guidino_cli.evaluation.summary import (
    MEAN_OF_CLASSES,
    EvaluationResult,
    SummaryRow,
    case_metric,
    cases_without_truth,
    compared_instances,
    count_statuses,
    pool_all_lesions,
    pooled_overlap,
    ranking_metric,
    summarize_measured_distances,
)
from guidino_cli.evaluation.types import CaseResult
from guidino_cli.metrics import INSTANCE_METRICS, METRICS, VOLUME_METRICS
from guidino_cli.metrics.instances import STATUSES, pool_instances
from guidino_cli.metrics.lesions import recall_by_size
from guidino_cli.progress import pluralize


def to_junit(result: EvaluationResult, pairing: Pairing, gates: Sequence[GateResult]) -> str:
    """JUnit XML with one test per gate, and one that every case has a usable prediction; warnings as its output."""
    problems = result.problems()
    failed = [gate for gate in gates if not gate.passed]
    numbers = {"tests": str(len(gates) + 1), "failures": str(len(failed)), "errors": str(int(bool(problems)))}
    suite = Element("testsuite", {"name": "guidino evaluate"} | numbers)
    usable = SubElement(suite, "testcase", {"classname": "guidino.cases", "name": "every case has a usable prediction"})
    if problems:
        error = SubElement(usable, "error", {"message": f"{len(problems)} of {len(result.cases)} cases failed"})
        error.text = "\n".join(f"{case.pair.truth.case}: {case.note}" for case in problems)
    for gate in gates:
        test = SubElement(suite, "testcase", {"classname": "guidino.gates", "name": gate.name})
        if not gate.passed:
            SubElement(test, "failure", {"message": gate.sentence})
    if warnings := [*pairing.coverage, *pairing.warnings]:
        SubElement(suite, "system-out").text = "\n".join(f"warning: {line}" for line in warnings)
    indent(suite)
    # XML 1.0 does not allow control characters; file names and messages may contain them.
    text = "".join(char for char in tostring(suite, encoding="unicode") if char >= " " or char in "\n\t")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


HEADINGS = ("metric", "n used/total", "mean", "std", "median", "95 % CI of mean")

SIZE_HEADINGS = ("size of the true object", "found/total", "recall")

DEFINITIONS = {
    "pooled": "95th percentile of the border-to-border distances of both directions pooled (medpy)",
    "max": "larger of the two directed 95th percentiles, border to border (MONAI, Metrics Reloaded)",
    "to-mask": "95th percentile of both directions pooled, border to mask (GuiDINO authors' code)",
}


TableBlock = tuple[str, list[tuple[str, ...]]]
"""A target and its rows."""


def table_rows(evaluation: EvaluationResult, rows: Sequence[SummaryRow] | None = None) -> list[TableBlock]:
    """(target, its rows) in order, of `rows` or of all cases; every row has a cell for each of `HEADINGS`."""
    blocks: dict[str, list[tuple[str, ...]]] = {}
    for row in evaluation.rows if rows is None else rows:
        blocks.setdefault(row.target, []).append(_cells(row, evaluation.unit))
    return list(blocks.items())


def caption(evaluation: EvaluationResult) -> list[str]:
    """Case counts, adjusted predictions, absent targets and scoring rules, one line each."""
    counts = count_statuses(evaluation)
    lines = [
        f"{pluralize(counts['cases'], 'case')}: {counts['scored']} scored, "
        f"{counts['missing']} missing, {counts['failed']} failed; {_describe_empty(evaluation)}"
    ]
    lines += describe_distances(evaluation)
    adjusted = [case for case in evaluation.cases if case.note and not case.is_problem]
    if adjusted:
        lines.append(f"notes on how {pluralize(len(adjusted), 'prediction')} fitted the truth, such as "
                     f"{adjusted[0].pair.truth.case}: {adjusted[0].note}")  # fmt: skip
    lines += _describe_instances(evaluation)
    if evaluation.absent:
        lines.append(f"no pixel in any mask, hence not scored: {', '.join(evaluation.absent)}")
    return lines + _describe_cases_without_truth(evaluation) + describe_rules(evaluation)


def _describe_instances(evaluation: EvaluationResult) -> list[str]:
    """Counts of true instances found, split, merged and missed; no line without an instance metric."""
    compared = list(compared_instances(evaluation).values())
    if not compared:
        return []
    counts = pool_instances(compared)
    total = sum(len(case.true) for case in compared)
    parts = ", ".join(f"{counts[status]} {status}" for status in STATUSES)
    extra = pluralize(counts["extra"], "predicted instance")
    return [f"{pluralize(total, 'true instance')}: {parts}; {extra} mostly in the background"]


_NAMED_CASES = 10


def _describe_cases_without_truth(evaluation: EvaluationResult) -> list[str]:
    """Number and names of the cases in which a target has nothing to be found, a line for each target with any."""
    lines = []
    for target, cases in cases_without_truth(evaluation).items():
        if not cases:
            continue
        named = ", ".join(cases[:_NAMED_CASES])
        more = f" and {len(cases) - _NAMED_CASES} more (report.json)" if len(cases) > _NAMED_CASES else ""
        lines.append(f"no {target} in the truth of {len(cases)} of {len(evaluation.cases)} cases: {named}{more}")
    return lines


def _describe_empty(evaluation: EvaluationResult) -> str:
    """Number of empty masks; with several classes of pairs of a case and a class, with the classes named."""
    counts, targets = count_statuses(evaluation), [target.name for target in evaluation.config.targets]
    found = [(str(score.status), score.target) for case in evaluation.cases for score in case.scores]
    parts = []
    labels = {"both_empty": "both", "truth_empty": "only truth", "prediction_empty": "only prediction"}
    for status, label in labels.items():
        named = [f"{target} {found.count((status, target))}" for target in targets if (status, target) in found]
        parts.append(f"{label} {counts[status]}" + (f" ({', '.join(named)})" if named and len(targets) > 1 else ""))
    unit = f" among {len(found)} pairs of a case and a class" if len(targets) > 1 else ""
    return f"empty{unit}: {', '.join(parts)}"


def describe_rules(evaluation: EvaluationResult) -> list[str]:
    """Definitions of the metrics, policy and bootstrap, one line each."""
    config, lines = evaluation.config, []
    if "hd95" in config.metrics:
        lines.append(f"HD95 in {evaluation.unit}: {DEFINITIONS[config.policy.hd95]}")
    if config.medpy:
        deviation = max(score.deviation for case in evaluation.cases for score in case.scores)
        lines.append(f"surface metrics by medpy {version('medpy')}; guidino's own differ by {deviation:.2g} at most")
    if "nsd" in config.metrics:
        tolerance = f"{config.options.tolerance:g} {evaluation.unit}"
        lines.append(f"NSD: share of border pixels within {tolerance} of the other border")
    if VOLUME_METRICS & set(config.metrics):
        lines.append(
            "FP and FN volume: objects, connected across edges, of one mask without a voxel of the other (autoPET); "
            "FN volume only where the truth has an object"
        )
    if any(name.startswith("lesion") for name in config.metrics):
        lines.append(f"objects: connected across corners, partners one to one from IoU {config.options.lesion_iou:g}")
    if len(config.targets) > 1:
        lines.append(f"{MEAN_OF_CLASSES}: mean of the classes' means; its n counts every class of every case")
    if evaluation.has_pixel_metrics:
        lines.append(f"policy {config.policy.name}: {config.policy.describe()}")
    if INSTANCE_METRICS & set(config.metrics):
        lines.append(f"policy {config.policy.name} of instances: {config.policy.describe_instances()}")
    lines.append(f"95 % CI: bootstrap over {_describe_draws(evaluation)}")
    return lines


def describe_distances(evaluation: EvaluationResult) -> list[str]:
    """Mean distance without the values that the policy substitutes; no line if there are none."""
    distances = summarize_measured_distances(evaluation)
    if not distances.diagonal and not distances.zero:
        return []
    means = ", ".join(f"{METRICS[name].label} {format_metric(value, name)}" for name, value in distances.means.items())
    substituted = [f"{distances.diagonal} count as the image diagonal"] if distances.diagonal else []
    substituted += [f"{distances.zero} as 0 (both empty)"] if distances.zero else []
    total = distances.ok + distances.diagonal + distances.zero
    unit = " pairs of a case and a class" if len(evaluation.config.targets) > 1 else ""
    return [f"distances measured in {distances.ok} of {total}{unit} (mean of these: {means}); {', '.join(substituted)}"]


def stratum_title(evaluation: EvaluationResult, name: str) -> str:
    """Heading of the table of one stratum: `scanner = X (12 cases)`."""
    total = evaluation.strata[name][0].statistics.total
    return f"{evaluation.strata_by or 'stratum'} = {name} ({pluralize(total, 'case')})"


def size_rows(evaluation: EvaluationResult) -> list[TableBlock]:
    """(target, its rows) of recall by size of the true objects, smallest first; empty without a lesion metric."""
    blocks: list[TableBlock] = []
    unit = "voxels" if any(len(case.shape or ()) == 3 for case in evaluation.cases) else "pixels"
    for target, lesions in pool_all_lesions(evaluation).items():
        rows = [
            _size_cells(_format_range(part.smallest, part.largest, unit), part.found, part.total)
            for part in recall_by_size(lesions)
        ]
        if rows:
            blocks.append((target, [*rows, _size_cells("all", sum(lesions.found), len(lesions.found))]))
    return blocks


def worst_cases(evaluation: EvaluationResult, number: int) -> list[str]:
    """The cases with the worst values of the ranking metric, and their metrics."""
    metric = ranking_metric(evaluation)
    ranked = sorted(evaluation.listed_cases(), key=lambda case: goodness(case, metric, evaluation))
    lines = []
    for case in ranked[:number]:
        values = [f"{metric_label(name, evaluation.unit)} {format_metric(case_metric(case, name, evaluation), name)}"
                   for name in evaluation.config.metrics[:3]]  # fmt: skip
        lines.append(f"{case.pair.truth.case}: {', '.join([*values, *_describe_statuses(case)])}")
    return lines


def _describe_statuses(case: CaseResult) -> list[str]:
    """Status of a case in words; classes are named unless all have the same status."""
    classes: dict[str, list[str]] = {}
    for score in case.scores:
        if score.status not in {"ok", "both_empty"}:
            classes.setdefault(score.status.replace("_", " "), []).append(score.target)
    return [
        status if len(names) == len(case.scores) else f"{status} ({', '.join(names)})"
        for status, names in sorted(classes.items())
    ]


def metric_label(metric: str, unit: str) -> str:
    """Heading of a metric with its unit: `HD95 px`."""
    units = {"distance": f" {unit}", "volume": " ml"}
    return METRICS[metric].label + units.get(METRICS[metric].kind, "")


def format_metric(value: float, metric: str) -> str:
    """A value for tables: four decimals, two for distances and volumes, a dash for NaN."""
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if METRICS[metric].kind in {"distance", "volume"} else f"{value:.4f}"


def _cells(row: SummaryRow, unit: str) -> tuple[str, ...]:
    statistics = row.statistics
    low, high = format_metric(statistics.ci_low, row.metric), format_metric(statistics.ci_high, row.metric)
    return (
        metric_label(row.metric, unit),
        f"{statistics.used}/{statistics.total}",
        format_metric(statistics.mean, row.metric),
        format_metric(statistics.std, row.metric),
        format_metric(statistics.median, row.metric),
        "-" if low == "-" else f"{low} .. {high}",
    )


def _size_cells(size: str, found: int, total: int) -> tuple[str, ...]:
    return size, f"{found}/{total}", format_metric(found / total, "lesion_recall")


def _format_range(smallest: int, largest: int, unit: str) -> str:
    return f"{smallest} {unit}" if smallest == largest else f"{smallest} .. {largest} {unit}"


def _describe_draws(evaluation: EvaluationResult) -> str:
    count = evaluation.group_count
    return f"groups ({pluralize(count, 'group')}, cases of one drawn together)" if count else "cases"


def goodness(case: CaseResult, metric: str, evaluation: EvaluationResult) -> float:
    """Sort key from the worst case to the best; a case without a value is the worst."""
    value = case_metric(case, metric, evaluation)
    if math.isnan(value):
        return -math.inf
    return value if METRICS[metric].higher_is_better else -value


def to_markdown(
    result: EvaluationResult, pairing: Pairing, provenance: Provenance, gates: Sequence[GateResult] = ()
) -> str:
    """Origin, warnings, rules, summary tables, pooled metrics, strata, gates and worst cases."""
    warnings = [f"**Warning:** {escape_markdown(line)}" for line in [*pairing.coverage, *pairing.warnings]]
    facts = [escape_markdown(line) for line in [*provenance.lines(), *caption(result)]]
    parts = ["# Evaluation", "", *(f"- {line}" for line in [*warnings, *facts]), ""]
    for target, rows in table_rows(result):
        parts += [f"## {escape_markdown(target)}", "", *markdown_table(HEADINGS, rows), ""]
    if result.has_pixel_metrics:
        parts += ["## Pooled over all pixels", "", *markdown_table(("target", "IoU", "Dice"), _pooled_rows(result)), ""]
    for target, rows in size_rows(result):
        parts += [f"## Objects of {escape_markdown(target)} by size", "", *markdown_table(SIZE_HEADINGS, rows), ""]
    for stratum, stratum_rows in result.strata.items():
        parts += [f"## {escape_markdown(stratum_title(result, stratum))}", ""]
        for target, block in table_rows(result, stratum_rows):
            parts += [f"**{escape_markdown(target)}**", "", *markdown_table(HEADINGS, block), ""]
    if gates:
        parts += ["## Gates", "", *(f"- {escape_markdown(gate.sentence)}" for gate in gates), ""]
    worst = worst_cases(result, 10)
    if worst:
        parts += ["## Worst cases", "", *(f"- {escape_markdown(line)}" for line in worst), ""]
    return "\n".join(parts)


def _pooled_rows(result: EvaluationResult) -> list[tuple[str, ...]]:
    pooled = {name: pooled_overlap(counts) for name, counts in result.pooled.items()}
    return [
        (name, format_metric(item["iou"], "iou"), format_metric(item["dice"], "dice")) for name, item in pooled.items()
    ]


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; all columns but the first are right-aligned."""
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return ["| " + " | ".join(escape_markdown(cell) for cell in line) + " |" for line in lines]


def escape_markdown(text: str) -> str:
    """Text for one table cell or list item: no column separators, line breaks or HTML tags."""
    return re.sub("<(?=[A-Za-z/!?])", "&lt;", text.replace("|", "\\|").replace("\n", " "))
