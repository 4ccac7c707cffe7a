"""A comparison as text: rows for tables, Markdown, CSV and JSON."""

import csv
import io
import math
from collections.abc import Sequence

from guidino_cli import __version__
from guidino_cli.evaluation.comparison import CAVEATS, FEWEST, Contest
from guidino_cli.evaluation.report_files import dump_json, number, without_nan
from guidino_cli.evaluation.result import Evaluation, case_value, status_counts
from guidino_cli.evaluation.tables import about_distances, digits, label, rules
from guidino_cli.metrics import METRICS
from guidino_cli.progress import counted

HEADINGS = ("figure", "n", "diff", "95 % CI", "W/T/L", "effect", "p", "Holm")

Results = Sequence[tuple[str, Evaluation]]
"""The sets by name, scored on the same cases."""


def blocks(contests: Sequence[Contest], unit: str) -> dict[str, list[tuple[str, ...]]]:
    """Rows with a cell for each of `HEADINGS`, by title such as `guided - plain`."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for item in contests:
        found.setdefault(f"{item.second} - {item.first}", []).append(_row(item, unit))
    return found


def about_sets(results: Results) -> list[str]:
    """The means of every set, and what was missing or not measured in it."""
    lines = []
    for name, result in results:
        means = (f"{label(m, result.unit)} {digits(result.line(result.headline, m).mean, m)}"
                 for m in result.job.metrics)  # fmt: skip
        counts = status_counts(result)
        unusable = "".join(f", {counts[kind]} {kind}" for kind in ("missing", "failed") if counts[kind])
        lines.append(f"{name}: {', '.join(means)} ({result.headline}, {counted(counts['cases'], 'case')}{unusable})")
        lines += [f"{name}: {line}" for line in about_distances(result)]
    return lines


def notes(result: Evaluation) -> list[str]:
    """How to read the table, the rules, and what a p-value does not say."""
    return [
        "diff: mean of second - first over cases; W/T/L: cases the second wins, ties and loses; effect: rank-biserial "
        f"correlation, +1 if the second always wins; p: Wilcoxon signed-rank (Pratt), none below {FEWEST} pairs; "
        "Holm: corrected over all rows",
        *rules(result),
        *CAVEATS,
    ]


def per_case_csv(results: Results) -> str:
    """One row per case and figure, one column per set; several targets are averaged."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "metric", *(name for name, _ in results)])
    for position, case in enumerate(results[0][1].cases):
        for metric in results[0][1].job.metrics:
            values = [number(case_value(result.cases[position], metric, result)) for _, result in results]
            writer.writerow([case.pair.truth.case, metric, *values])
    return text.getvalue()


def to_markdown(results: Results, contests: Sequence[Contest]) -> str:
    """The tables, the picture and the rules."""
    parts = ["# Comparison", "", *(f"- {_safe(line)}" for line in about_sets(results)), ""]
    for title, rows in blocks(contests, results[0][1].unit).items():
        parts += [f"## {_safe(title)}", "", f"| {' | '.join(HEADINGS)} |", "| --- |" + " ---: |" * (len(HEADINGS) - 1)]
        parts += [f"| {' | '.join(row)} |" for row in rows] + [""]
    return "\n".join(
        [*parts, "![paired differences](differences.png)", "", *(f"- {line}" for line in notes(results[0][1])), ""]
    )


def to_json(results: Results, contests: Sequence[Contest], *, origin: str, command: Sequence[str]) -> str:
    """Everything, for machines."""
    first = results[0][1]
    rows = []
    for item in contests:
        row = {key: value for key, value in vars(item).items() if key != "differences"}
        rows.append(row | {"n_used": item.used, "n_total": item.differences.size})
    content = {
        "guidino": __version__,
        "command": list(command),
        "truth": origin,
        "sets": [name for name, _ in results],
        "means": {
            name: {metric: result.line(result.headline, metric).mean for metric in result.job.metrics}
            for name, result in results
        },
        "counts": {name: status_counts(result) for name, result in results},
        "headline": first.headline,
        "unit": first.unit,
        "policy": first.job.policy.to_json(),
        "rules": rules(first),
        "contests": rows,
        "caveats": CAVEATS,
    }
    return dump_json(without_nan(content))


def _row(item: Contest, unit: str) -> tuple[str, ...]:
    places = 2 if METRICS[item.metric].kind == "distance" else 3

    def figure(value: float) -> str:
        if math.isnan(value):
            return "-"
        # A difference too small for the column is not none.
        return f"{value:+.1g}" if 0 < abs(value) < 0.5 * 10**-places else f"{value:+.{places}f}"

    return (
        label(item.metric, unit),
        f"{item.used}/{item.differences.size}",
        figure(item.mean),
        "-" if math.isnan(item.ci_low) else f"{figure(item.ci_low)}..{figure(item.ci_high)}",
        f"{item.wins}/{item.ties}/{item.losses}",
        "-" if math.isnan(item.effect) else f"{item.effect:+.2f}",
        _p(item.p_value),
        _p(item.p_holm),
    )


def _p(value: float) -> str:
    return "-" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def _safe(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
