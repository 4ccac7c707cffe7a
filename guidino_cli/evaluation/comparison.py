"""Compare sets of predictions case by case: differences, intervals and tests, as tables, Markdown, CSV and JSON."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import nan

import numpy as np

from guidino_cli import __version__
from guidino_cli.evaluation.report.files import dump_json, format_number, replace_nan
from guidino_cli.evaluation.report.text import describe_distances, describe_rules, format_metric, metric_label
from guidino_cli.evaluation.summary import (
    EvaluationResult,
    bootstrap_means,
    case_metric,
    count_statuses,
    percentile_interval,
)
from guidino_cli.metrics import METRICS
from guidino_cli.progress import pluralize

MIN_PAIRS = 6
"""Pairs below which the smallest possible two-sided p-value of the signed-rank test exceeds 0.05 or nearly does."""

CAVEATS = (
    "A p-value is not the probability that the methods are equal, nor a measure of how much they differ: look at the "
    "difference and its interval.",
    "It speaks of cases like these. It does not know that a network trained again with another seed would give other "
    "masks; compare several runs for that.",
    "A large p-value does not show that the methods are equal; the interval shows which differences remain possible.",
)


@dataclass(frozen=True)
class PairedComparison:
    """Two sets of predictions and one figure.

    Attributes:
        first: Name of the first set.
        second: Name of the second set.
        metric: Name from `METRICS`.
        differences: second - first for every case; NaN where one of them has no figure.
        mean: Mean difference.
        ci_low: Lower end of its 95 % interval, from a bootstrap over cases (or groups).
        ci_high: Its upper end.
        wins: Cases in which the second is better.
        ties: Cases with exactly equal figures.
        losses: Cases in which the first is better.
        p_value: Wilcoxon's signed-rank test, two-sided, ties at zero ranked (Pratt); NaN below `FEWEST` pairs or if all
            are equal.
        p_holm: The same after Holm's correction over all contests.
        effect: Matched-pairs rank-biserial correlation in [-1, 1]; above 0, the second is better.
    """

    first: str
    second: str
    metric: str
    differences: np.ndarray
    mean: float
    ci_low: float
    ci_high: float
    wins: int
    ties: int
    losses: int
    p_value: float
    p_holm: float
    effect: float

    @property
    def known(self) -> np.ndarray:
        """The differences without NaN."""
        return self.differences[~np.isnan(self.differences)]

    @property
    def used(self) -> int:
        """Cases with a figure on both sides."""
        return len(self.known)


def compare_all(
    results: Sequence[tuple[str, EvaluationResult]], *, groups: Sequence[str] | None = None, seed: int = 0
) -> list[PairedComparison]:
    """Every pair of results in every figure they share.

    Args:
        results: (name, result) of the same cases in the same order, scored with the same job.
        groups: What the bootstrap draws together, one value a case.
        seed: Of the bootstrap.

    Raises:
        ValueError: If the cases differ.
    """
    cases = [[case.pair.truth.case for case in result.cases] for _, result in results]
    if any(names != cases[0] for names in cases):
        raise ValueError("the results hold different cases")
    contests = []
    for metric in results[0][1].config.metrics:
        columns = {name: _column(result, metric) for name, result in results}
        for (first, ours), (second, theirs) in combinations(columns.items(), 2):
            contests.append(contest(first, second, metric, theirs - ours, groups=groups, seed=seed))
    corrected = holm_correction([item.p_value for item in contests])
    return [replace(item, p_holm=p_value) for item, p_value in zip(contests, corrected, strict=True)]


def contest(
    first: str,
    second: str,
    metric: str,
    differences: np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> PairedComparison:
    """Judge the differences of one figure, second - first."""
    known = differences[~np.isnan(differences)]
    gain = known if METRICS[metric].higher_is_better else -known
    ci_low, ci_high = nan, nan
    if known.size > 1:
        ci_low, ci_high = percentile_interval(bootstrap_means(differences[:, None], groups, seed=seed)[:, 0])
    return PairedComparison(
        first=first,
        second=second,
        metric=metric,
        differences=differences,
        mean=float(known.mean()) if known.size else nan,
        ci_low=ci_low,
        ci_high=ci_high,
        wins=int(np.count_nonzero(gain > 0)),
        ties=int(np.count_nonzero(gain == 0)),
        losses=int(np.count_nonzero(gain < 0)),
        p_value=signed_rank_p(known),
        p_holm=nan,
        effect=rank_biserial(gain),
    )


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test; NaN below `FEWEST` pairs or if no pair differs."""
    if differences.size < MIN_PAIRS or not differences.any() or not np.isfinite(differences).all():
        return nan
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences, zero_method="pratt", alternative="two-sided").pvalue)


def rank_biserial(gains: np.ndarray) -> float:
    """(rank sum of gains - rank sum of losses) / (both): 1 if every difference is a gain; NaN if no pair differs."""
    from scipy.stats import rankdata

    if not gains.any():
        return nan
    ranks = rankdata(np.abs(gains))
    up, down = ranks[gains > 0].sum(), ranks[gains < 0].sum()
    return float((up - down) / (up + down))


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; NaN stays NaN and does not count as a test."""
    corrected = [nan] * len(p_values)
    tested = sorted((index for index, value in enumerate(p_values) if not np.isnan(value)), key=lambda i: p_values[i])
    highest = 0.0
    for place, index in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - place) * p_values[index]))
        corrected[index] = highest
    return corrected


def _column(result: EvaluationResult, metric: str) -> np.ndarray:
    return np.array([case_metric(case, metric, result) for case in result.cases])


HEADINGS = ("figure", "n", "diff", "95 % CI", "W/T/L", "effect", "p", "Holm")

NamedResults = Sequence[tuple[str, EvaluationResult]]
"""The sets by name, scored on the same cases."""


def comparison_tables(contests: Sequence[PairedComparison], unit: str) -> dict[str, list[tuple[str, ...]]]:
    """Rows with a cell for each of `HEADINGS`, by title such as `guided - plain`."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for item in contests:
        found.setdefault(f"{item.second} - {item.first}", []).append(_row(item, unit))
    return found


def describe_sets(results: NamedResults) -> list[str]:
    """The means of every set, and what was missing or not measured in it."""
    lines = []
    for name, result in results:
        means = (f"{metric_label(m, result.unit)} {format_metric(result.statistics(result.headline, m).mean, m)}"
                 for m in result.config.metrics)  # fmt: skip
        counts = count_statuses(result)
        unusable = "".join(f", {counts[kind]} {kind}" for kind in ("missing", "failed") if counts[kind])
        lines.append(f"{name}: {', '.join(means)} ({result.headline}, {pluralize(counts['cases'], 'case')}{unusable})")
        lines += [f"{name}: {line}" for line in describe_distances(result)]
    return lines


def explain_table(result: EvaluationResult) -> list[str]:
    """How to read the table, the rules, and what a p-value does not say."""
    return [
        "diff: mean of second - first over cases; W/T/L: cases the second wins, ties and loses; effect: rank-biserial "
        f"correlation, +1 if the second always wins; p: Wilcoxon signed-rank (Pratt), none below {MIN_PAIRS} pairs; "
        "Holm: corrected over all rows",
        *describe_rules(result),
        *CAVEATS,
    ]


def per_case_csv(results: NamedResults) -> str:
    """One row per case and figure, one column per set; several targets are averaged."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "metric", *(name for name, _ in results)])
    for position, case in enumerate(results[0][1].cases):
        for metric in results[0][1].config.metrics:
            values = [format_number(case_metric(result.cases[position], metric, result)) for _, result in results]
            writer.writerow([case.pair.truth.case, metric, *values])
    return text.getvalue()


def to_markdown(results: NamedResults, contests: Sequence[PairedComparison]) -> str:
    """The tables, the picture and the rules."""
    parts = ["# Comparison", "", *(f"- {_safe(line)}" for line in describe_sets(results)), ""]
    for title, rows in comparison_tables(contests, results[0][1].unit).items():
        parts += [f"## {_safe(title)}", "", f"| {' | '.join(HEADINGS)} |", "| --- |" + " ---: |" * (len(HEADINGS) - 1)]
        parts += [f"| {' | '.join(row)} |" for row in rows] + [""]
    return "\n".join(
        [
            *parts,
            "![paired differences](differences.png)",
            "",
            *(f"- {line}" for line in explain_table(results[0][1])),
            "",
        ]
    )


def to_json(results: NamedResults, contests: Sequence[PairedComparison], *, origin: str, command: Sequence[str]) -> str:
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
            name: {metric: result.statistics(result.headline, metric).mean for metric in result.config.metrics}
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
    places = 2 if METRICS[item.metric].kind == "distance" else 3

    def figure(value: float) -> str:
        if math.isnan(value):
            return "-"
        # A difference too small for the column is not none.
        return f"{value:+.1g}" if 0 < abs(value) < 0.5 * 10**-places else f"{value:+.{places}f}"

    return (
        metric_label(item.metric, unit),
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
