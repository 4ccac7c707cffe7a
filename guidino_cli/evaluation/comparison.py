"""Paired comparison of prediction sets: differences, bootstrap intervals, signed-rank tests, Holm's correction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import nan

import numpy as np

from guidino_cli.evaluation.statistics import bootstrap_means, percentile_interval
from guidino_cli.evaluation.summary import MEAN_OF_CLASSES, EvaluationResult, case_metric, get_score
from guidino_cli.metrics import METRICS

MIN_PAIRS = 6
"""Pairs below which the smallest possible two-sided p-value of the signed-rank test exceeds 0.05 or nearly does."""

NamedResults = Sequence[tuple[str, EvaluationResult]]
"""(name, result) of each set of predictions, scored on the same cases."""


@dataclass(frozen=True)
class PairedComparison:
    """Comparison of two sets of predictions in one metric.

    Attributes:
        first: Name of the first set.
        second: Name of the second set.
        metric: Name from `METRICS`.
        target: A class, or the headline of the results.
        differences: second - first for every case; NaN where one of them has no value.
        mean: Mean difference.
        ci_low: Lower end of its 95 % interval, from a bootstrap over cases (or groups).
        ci_high: Its upper end.
        wins: Cases in which the second is better.
        ties: Cases with exactly equal values.
        losses: Cases in which the first is better.
        p_value: Wilcoxon's signed-rank test, two-sided, zeros ranked (Pratt), of the cases or of the means of groups;
            NaN below `MIN_PAIRS` of them or if all are equal.
        p_holm: p_value after Holm's correction over all comparisons.
        effect: Matched-pairs rank-biserial correlation in [-1, 1]; positive if the second is better.
    """

    first: str
    second: str
    metric: str
    target: str
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
        """Differences without NaN."""
        return self.differences[~np.isnan(self.differences)]

    @property
    def used(self) -> int:
        """Cases with a value in both sets."""
        return len(self.known)


def compare_all(results: NamedResults, *, groups: Sequence[str] | None = None, seed: int = 0) -> list[PairedComparison]:
    """Compare every pair of results in every metric: of the headline first, then of each class if there are several.

    Args:
        results: Results of the same cases in the same order, scored with the same options.
        groups: Group of each case; the bootstrap draws whole groups.
        seed: Random seed of the bootstrap.

    Raises:
        ValueError: The cases differ.
    """
    cases = [[case.pair.truth.case for case in result.cases] for _, result in results]
    if any(names != cases[0] for names in cases):
        raise ValueError("the results hold different cases")
    comparisons = []
    for target, metric in product(compared_targets(results), results[0][1].config.metrics):
        columns = {name: target_column(result, metric, target) for name, result in results}
        for (first, baseline), (second, candidate) in combinations(columns.items(), 2):
            item = compare_pair(first, second, metric, candidate - baseline, target=target, groups=groups, seed=seed)
            comparisons.append(item)
    corrected = holm_correction([item.p_value for item in comparisons])
    return [replace(item, p_holm=p_value) for item, p_value in zip(comparisons, corrected, strict=True)]


def compare_pair(
    first: str,
    second: str,
    metric: str,
    differences: np.ndarray,
    *,
    target: str,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> PairedComparison:
    """Statistics of the differences second - first of one metric, one per case; NaN means none."""
    known = differences[~np.isnan(differences)]
    units = known if groups is None else _group_means(differences, groups)
    gain = known if METRICS[metric].higher_is_better else -known
    ci_low, ci_high = nan, nan
    if units.size > 1:
        ci_low, ci_high = percentile_interval(bootstrap_means(differences[:, None], groups, seed=seed)[:, 0])
    return PairedComparison(
        first=first,
        second=second,
        metric=metric,
        target=target,
        differences=differences,
        mean=float(known.mean()) if known.size else nan,
        ci_low=ci_low,
        ci_high=ci_high,
        wins=int(np.count_nonzero(gain > 0)),
        ties=int(np.count_nonzero(gain == 0)),
        losses=int(np.count_nonzero(gain < 0)),
        p_value=signed_rank_p(units),
        p_holm=nan,
        effect=rank_biserial(gain),
    )


def _group_means(differences: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Mean difference of each group that has a value; groups are independent, their cases are not."""
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    parts = [differences[member == index] for index in range(len(names))]
    return np.array([part[~np.isnan(part)].mean() for part in parts if not np.isnan(part).all()])


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test; NaN below `MIN_PAIRS` pairs or if no pair differs."""
    if differences.size < MIN_PAIRS or not differences.any() or not np.isfinite(differences).all():
        return nan
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences, zero_method="pratt", alternative="two-sided").pvalue)


def rank_biserial(gains: np.ndarray) -> float:
    """(rank sum of gains - rank sum of losses) / (sum of both), in [-1, 1]; NaN if no pair differs."""
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
    for rank, index in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def compared_targets(results: NamedResults) -> list[str]:
    """The headline, followed by the classes of any set if there are several."""
    classes = list(dict.fromkeys(target.name for _, result in results for target in result.config.targets))
    return [results[0][1].headline] if len(classes) == 1 else [MEAN_OF_CLASSES, *classes]


def target_column(result: EvaluationResult, metric: str, target: str) -> np.ndarray:
    """A metric of every case, of one class or averaged over those that have a value; NaN where there is none."""
    if target == MEAN_OF_CLASSES:
        return np.array([case_metric(case, metric, result) for case in result.cases])
    if target in result.absent or all(target != item.name for item in result.config.targets):
        return np.full(len(result.cases), nan)
    return np.array([get_score(case, target).values[metric] for case in result.cases])
