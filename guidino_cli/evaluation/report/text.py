"""Reports as text: terminal table, Markdown and JUnit XML."""

import math
from collections.abc import Sequence
from importlib.metadata import version
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from guidino_cli.evaluation.gates import GateResult
from guidino_cli.evaluation.summary import (
    EvaluationResult,
    SummaryRow,
    case_metric,
    count_statuses,
    pool_all_lesions,
    pooled_overlap,
    ranking_metric,
    summarize_measured_distances,
)
from guidino_cli.metrics import METRICS
from guidino_cli.metrics.lesions import recall_by_size
from guidino_cli.progress import pluralize


def to_junit(result: EvaluationResult, verdicts: Sequence[GateResult]) -> str:
    """One test per gate and one that every case has a usable prediction."""
    problems = result.problems()
    failed = [verdict for verdict in verdicts if not verdict.passed]
    numbers = {"tests": str(len(verdicts) + 1), "failures": str(len(failed)), "errors": str(int(bool(problems)))}
    suite = Element("testsuite", {"name": "guidino evaluate"} | numbers)
    usable = SubElement(suite, "testcase", {"classname": "guidino.cases", "name": "every case has a usable prediction"})
    if problems:
        error = SubElement(usable, "error", {"message": f"{len(problems)} of {len(result.cases)} cases failed"})
        error.text = "\n".join(f"{case.pair.truth.case}: {case.note}" for case in problems)
    for verdict in verdicts:
        test = SubElement(suite, "testcase", {"classname": "guidino.gates", "name": verdict.name})
        if not verdict.passed:
            SubElement(test, "failure", {"message": verdict.sentence})
    indent(suite)
    # XML 1.0 has no control characters; file names and messages may.
    text = "".join(sign for sign in tostring(suite, encoding="unicode") if sign >= " " or sign in "\n\t")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


HEADINGS = ("figure", "n used/total", "mean", "std", "median", "95 % CI of mean")

SIZE_HEADINGS = ("size of the true object", "found/total", "recall")

DEFINITIONS = {
    "pooled": "95th percentile of the border-to-border distances of both directions pooled (medpy)",
    "max": "larger of the two directed 95th percentiles, border to border (MONAI, Metrics Reloaded)",
    "to-mask": "95th percentile of both directions pooled, border to mask (GuiDINO authors' code)",
}


TableBlock = tuple[str, list[tuple[str, ...]]]
"""A target and its rows."""


def table_rows(evaluation: EvaluationResult, lines: Sequence[SummaryRow] | None = None) -> list[TableBlock]:
    """(target, its rows) in order; every row has a cell for each of `HEADINGS`."""
    blocks: dict[str, list[tuple[str, ...]]] = {}
    for line in evaluation.rows if lines is None else lines:
        blocks.setdefault(line.target, []).append(_row(line, evaluation.unit))
    return list(blocks.items())


def caption(evaluation: EvaluationResult) -> list[str]:
    """What a reader must know before believing the table, one line each."""
    counts = count_statuses(evaluation)
    lines = [
        f"{pluralize(counts['cases'], 'case')}: {counts['scored']} scored, "
        f"{counts['missing']} missing, {counts['failed']} failed; "
        f"empty: both {counts['both_empty']}, only truth {counts['truth_empty']}, "
        f"only prediction {counts['prediction_empty']}"
    ]
    lines += describe_distances(evaluation)
    adjusted = [case for case in evaluation.cases if case.note and not case.is_problem]
    if adjusted:
        lines.append(f"predictions fitted to the truth: {len(adjusted)}, such as {adjusted[0].pair.truth.case}, "
                     f"{adjusted[0].note}")  # fmt: skip
    if evaluation.absent:
        lines.append(f"no pixel in any mask, hence no figure: {', '.join(evaluation.absent)}")
    return lines + describe_rules(evaluation)


def describe_rules(evaluation: EvaluationResult) -> list[str]:
    """The definitions and rules behind the figures, one line each."""
    config, lines = evaluation.config, []
    if "hd95" in config.metrics:
        lines.append(f"HD95 in {evaluation.unit}: {DEFINITIONS[config.policy.hd95]}")
    if config.medpy:
        deviation = max(score.deviation for case in evaluation.cases for score in case.scores)
        lines.append(f"surface figures by medpy {version('medpy')}; guidino's own differ by {deviation:.2g} at most")
    if "nsd" in config.metrics:
        tolerance = f"{config.options.tolerance:g} {evaluation.unit}"
        lines.append(f"NSD: share of border pixels within {tolerance} of the other border")
    if any(name.startswith("lesion") for name in config.metrics):
        lines.append(f"objects: connected across corners, partners one to one from IoU {config.options.lesion_iou:g}")
    lines.append(f"policy {config.policy.name}: {config.policy.describe()}")
    lines.append(f"95 % CI: bootstrap over {'groups' if evaluation.group_count else 'cases'}" + _groups(evaluation))
    return lines


def describe_distances(evaluation: EvaluationResult) -> list[str]:
    """What the mean of the distances is without the cases that have none; nothing if all have one."""
    found = summarize_measured_distances(evaluation)
    if not found.diagonal and not found.zero:
        return []
    means = ", ".join(f"{METRICS[name].label} {format_metric(value, name)}" for name, value in found.means.items())
    rest = [f"{found.diagonal} count as the image diagonal"] if found.diagonal else []
    rest += [f"{found.zero} as 0 (both empty)"] if found.zero else []
    total = found.ok + found.diagonal + found.zero
    return [f"distances measured in {found.ok} of {total} (mean of these: {means}); {', '.join(rest)}"]


def stratum_title(name: str, lines: Sequence[SummaryRow]) -> str:
    """Heading of the table of one stratum."""
    return f"stratum {name} ({pluralize(lines[0].statistics.total, 'case')})"


def size_rows(evaluation: EvaluationResult) -> list[TableBlock]:
    """(target, its rows) of the true objects by size, the smallest quarter first; empty unless asked for."""
    blocks: list[TableBlock] = []
    word = "voxels" if any(len(case.shape or ()) == 3 for case in evaluation.cases) else "pixels"
    for target, lesions in pool_all_lesions(evaluation).items():
        rows = [
            _found(_range(part.smallest, part.largest, word), part.found, part.total)
            for part in recall_by_size(lesions)
        ]
        if rows:
            blocks.append((target, [*rows, _found("all", sum(lesions.found), len(lesions.found))]))
    return blocks


def worst_cases(evaluation: EvaluationResult, number: int) -> list[str]:
    """The cases with the lowest value of the first share, with their figures."""
    metric = ranking_metric(evaluation)
    ranked = sorted(evaluation.cases, key=lambda case: _order(case_metric(case, metric, evaluation)))
    lines = []
    for case in ranked[:number]:
        figures = [f"{metric_label(name, evaluation.unit)} {format_metric(case_metric(case, name, evaluation), name)}"
                   for name in evaluation.config.metrics[:3]]  # fmt: skip
        states = sorted({score.status.replace("_", " ") for score in case.scores} - {"ok", "both empty"})
        lines.append(f"{case.pair.truth.case}: {', '.join([*figures, *states])}")
    return lines


def metric_label(metric: str, unit: str) -> str:
    """Heading of a figure with its unit: `HD95 px`."""
    return METRICS[metric].label + (f" {unit}" if METRICS[metric].kind == "distance" else "")


def format_metric(value: float, metric: str) -> str:
    """A figure for people: four digits for shares, two for distances, a dash for none."""
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if METRICS[metric].kind == "distance" else f"{value:.4f}"


def _row(line: SummaryRow, unit: str) -> tuple[str, ...]:
    summary = line.statistics
    low, high = format_metric(summary.ci_low, line.metric), format_metric(summary.ci_high, line.metric)
    return (
        metric_label(line.metric, unit),
        f"{summary.used}/{summary.total}",
        format_metric(summary.mean, line.metric),
        format_metric(summary.std, line.metric),
        format_metric(summary.median, line.metric),
        "-" if low == "-" else f"{low} .. {high}",
    )


def _found(size: str, found: int, total: int) -> tuple[str, ...]:
    return size, f"{found}/{total}", format_metric(found / total, "lesion_recall")


def _range(smallest: int, largest: int, word: str) -> str:
    return f"{smallest} {word}" if smallest == largest else f"{smallest} .. {largest} {word}"


def _groups(evaluation: EvaluationResult) -> str:
    count = evaluation.group_count
    return f" ({pluralize(count, 'group')}, cases of one drawn together)" if count else ""


def _order(value: float) -> float:
    """NaN first: a case without a figure is not a good case."""
    return -math.inf if math.isnan(value) else value


def to_markdown(result: EvaluationResult, verdicts: Sequence[GateResult] = ()) -> str:
    """Summary table, pooled figures, gates, worst cases and the rules behind them."""
    parts = ["# Evaluation", "", *(f"- {_safe(line)}" for line in caption(result)), ""]
    for target, rows in table_rows(result):
        parts += [f"## {_safe(target)}", "", *_table(HEADINGS, rows), ""]
    parts += ["## Pooled over all pixels", "", *_table(("target", "IoU", "Dice"), _pooled(result)), ""]
    for target, rows in size_rows(result):
        parts += [f"## Objects of {_safe(target)} by size", "", *_table(SIZE_HEADINGS, rows), ""]
    for stratum, lines in result.strata.items():
        parts += [f"## {_safe(stratum_title(stratum, lines))}", ""]
        for target, block in table_rows(result, lines):
            parts += [f"**{_safe(target)}**", "", *_table(HEADINGS, block), ""]
    if verdicts:
        parts += ["## Gates", "", *(f"- {_safe(verdict.sentence)}" for verdict in verdicts), ""]
    worst = worst_cases(result, 10)
    if worst:
        parts += ["## Worst cases", "", *(f"- {_safe(line)}" for line in worst), ""]
    return "\n".join(parts)


def _pooled(result: EvaluationResult) -> list[tuple[str, ...]]:
    figures = {name: pooled_overlap(counts) for name, counts in result.pooled.items()}
    return [
        (name, format_metric(item["iou"], "iou"), format_metric(item["dice"], "dice")) for name, item in figures.items()
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return ["| " + " | ".join(_safe(cell) for cell in line) + " |" for line in lines]


def _safe(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
