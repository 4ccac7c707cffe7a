"""Comparison of prediction sets as tables, Markdown, CSV and JSON."""

import math
from collections.abc import Sequence

from guidino_cli import __version__
from guidino_cli.evaluation.comparison import MIN_PAIRS, NamedResults, PairedComparison, compared_targets, target_column
from guidino_cli.evaluation.names import natural_key
from guidino_cli.evaluation.report.files import dump_json, format_number, replace_nan
from guidino_cli.evaluation.report.text import (
    TableBlock,
    describe_distances,
    describe_rules,
    escape_markdown,
    format_metric,
    markdown_table,
    metric_label,
)
from guidino_cli.evaluation.summary import EvaluationResult, count_statuses
from guidino_cli.metrics import METRICS
from guidino_cli.progress import pluralize
from guidino_cli.tables import to_csv

CAVEATS = (
    "A p-value is not the probability that the methods are equal, nor a measure of how much they differ: look at the "
    "difference and its interval.",
    "It holds for cases like these. It does not account for the masks that a network trained with another seed would "
    "give; compare several runs for that.",
    "A large p-value does not show that the methods are equal; the interval shows which differences remain possible.",
)

EXPLAINED_TESTS = (
    "diff: mean of second - first over cases; W/T/L: cases the second wins, ties and loses; effect: rank-biserial "
    f"correlation, +1 if the second always wins; p: Wilcoxon signed-rank (Pratt), none below {MIN_PAIRS} pairs"
)
HEADINGS = ("metric", "n", "diff", "95 % CI", "W/T/L", "effect", "p", "Holm")


def comparison_tables(comparisons: Sequence[PairedComparison], unit: str) -> dict[str, list[TableBlock]]:
    """Targets and their rows, with a cell for each of `HEADINGS`, by a title such as `guided - plain`."""
    tables: dict[str, dict[str, list[tuple[str, ...]]]] = {}
    for item in comparisons:
        blocks = tables.setdefault(f"{item.second} - {item.first}", {})
        blocks.setdefault(item.target, []).append(_row(item, unit))
    return {title: list(blocks.items()) for title, blocks in tables.items()}


def describe_sets(results: NamedResults) -> list[str]:
    """Means of each set, and its missing, failed and unmeasured cases."""
    lines = []
    for name, result in results:
        means = ", ".join(
            f"{metric_label(metric, result.unit)} "
            f"{format_metric(result.statistics(result.headline, metric).mean, metric)}"
            for metric in result.config.metrics
        )
        counts = count_statuses(result)
        unusable = "".join(f", {counts[kind]} {kind}" for kind in ("missing", "failed") if counts[kind])
        lines.append(f"{name}: {means} ({result.headline}, {pluralize(counts['cases'], 'case')}{unusable})")
        lines += [f"{name}: {line}" for line in describe_distances(result)]
    classes = {name: {target.name for target in result.config.targets} for name, result in results}
    known = set().union(*classes.values())
    lines += [
        f"{name} has no {', '.join(sorted(known - own))}: its means are over other classes than those of other sets"
        for name, own in classes.items()
        if own != known
    ]
    return lines


def explain_table(result: EvaluationResult) -> list[str]:
    """Explanation of the headings, the scoring rules, and the limits of a p-value."""
    return [
        f"{EXPLAINED_TESTS}; with --group, of the means of the groups, none below that many groups; "
        "Holm: corrected over all rows",
        *describe_rules(result),
        *CAVEATS,
    ]


def per_case_csv(results: NamedResults) -> str:
    """One row per case, target and metric, one column per set; the headline comes before the classes."""
    first = results[0][1]
    names = [case.pair.truth.case for case in first.cases]
    order = sorted(range(len(names)), key=lambda index: natural_key(names[index]))
    rows: list[list[str]] = []
    for target in compared_targets(results):
        columns = {
            metric: [target_column(result, metric, target) for _, result in results] for metric in first.config.metrics
        }
        for index in order:
            for metric, values in columns.items():
                cells = [format_number(column[index]) for column in values]
                rows.append([names[index], target, metric, *cells])
    return to_csv(["case", "target", "metric", *(name for name, _ in results)], rows)


def to_markdown(results: NamedResults, comparisons: Sequence[PairedComparison], warnings: Sequence[str]) -> str:
    """Warnings, summary of the sets, tables, figure and rules."""
    first = results[0][1]
    shown = [f"- **Warning:** {escape_markdown(line)}" for line in warnings]
    parts = ["# Comparison", "", *shown, *(f"- {escape_markdown(line)}" for line in describe_sets(results)), ""]
    for title, blocks in comparison_tables(comparisons, first.unit).items():
        parts += [f"## {escape_markdown(title)}", ""]
        for target, rows in blocks:
            parts += [f"**{escape_markdown(target)}**", ""] if len(blocks) > 1 else []
            parts += [*markdown_table(HEADINGS, rows), ""]
    notes = (f"- {line}" for line in explain_table(first))
    return "\n".join([*parts, "![paired differences](differences.png)", "", *notes, ""])


def to_json(
    results: NamedResults,
    comparisons: Sequence[PairedComparison],
    *,
    origin: str,
    command: Sequence[str],
    warnings: Sequence[str],
) -> str:
    """Content of comparison.json."""
    first = results[0][1]
    rows = []
    for item in comparisons:
        row = {key: value for key, value in vars(item).items() if key != "differences"}
        rows.append(row | {"n_used": item.used, "n_total": item.differences.size})
    content = {
        "guidino": __version__,
        "command": list(command),
        "truth": origin,
        "warnings": list(warnings),
        "sets": [name for name, _ in results],
        "means": {
            name: {metric: result.statistics(result.headline, metric).mean for metric in result.config.metrics}
            for name, result in results
        },
        "class_means": {
            name: {
                target.name: {metric: result.statistics(target.name, metric).mean for metric in result.config.metrics}
                for target in result.config.targets
            }
            for name, result in results
        },
        "counts": {name: count_statuses(result) for name, result in results},
        "headline": first.headline,
        "unit": first.unit,
        "policy": first.config.policy.to_json(),
        "rules": describe_rules(first),
        "contests": rows,
        "caveats": CAVEATS,
    }
    return dump_json(replace_nan(content))


def _row(item: PairedComparison, unit: str) -> tuple[str, ...]:
    decimals = 2 if METRICS[item.metric].kind == "distance" else 3

    def signed(value: float) -> str:
        if math.isnan(value):
            return "-"
        # A difference too small for the column must not look like none.
        return f"{value:+.1g}" if 0 < abs(value) < 0.5 * 10**-decimals else f"{value:+.{decimals}f}"

    return (
        metric_label(item.metric, unit),
        f"{item.used}/{item.differences.size}",
        signed(item.mean),
        "-" if math.isnan(item.ci_low) else f"{signed(item.ci_low)} .. {signed(item.ci_high)}",
        f"{item.wins}/{item.ties}/{item.losses}",
        "-" if math.isnan(item.effect) else f"{item.effect:+.2f}",
        _format_p(item.p_value),
        _format_p(item.p_holm),
    )


def _format_p(value: float) -> str:
    return "-" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"
