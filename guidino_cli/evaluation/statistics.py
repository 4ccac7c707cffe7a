"""Statistics of one value per case: mean, spread, and the bootstrap interval of the mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

BOOTSTRAP_RESAMPLES = 2000
_MAX_BLOCK = 2_000_000
"""Elements of one block of resampling weights; bounds the memory of the bootstrap."""


@dataclass(frozen=True)
class SummaryStatistics:
    """Statistics of one metric of one target over all cases.

    Attributes:
        total: Number of cases.
        used: Cases with a value; the policy leaves out the others, or they cannot be measured.
        mean: Mean over the used cases; NaN without any.
        std: Standard deviation with n - 1; NaN below two cases.
        ci_low: Lower end of the 95 % bootstrap interval of the mean.
        ci_high: Its upper end.
    """

    total: int
    used: int
    mean: float
    std: float
    median: float
    q25: float
    q75: float
    smallest: float
    largest: float
    ci_low: float
    ci_high: float


def summarize(values: np.ndarray, ci: tuple[float, float] = (nan, nan)) -> SummaryStatistics:
    """Statistics of one value per case, NaN meaning none; `ci` is the interval of the mean, see `bootstrap_means`."""
    used = values[~np.isnan(values)]
    if not used.size:
        return SummaryStatistics(values.size, 0, *(nan,) * 9)
    q25, median, q75 = np.percentile(used, (25, 50, 75)) if np.isfinite(used).all() else (nan, nan, nan)
    std = float(used.std(ddof=1)) if used.size > 1 else nan
    ends = (float(used.min()), float(used.max()))
    return SummaryStatistics(
        values.size, used.size, float(used.mean()), std, float(median), float(q25), float(q75), *ends, *ci
    )


def bootstrap_means(
    columns: np.ndarray, groups: Sequence[str] | None = None, *, seed: int = 0, resamples: int = BOOTSTRAP_RESAMPLES
) -> np.ndarray:
    """Means of bootstrap samples of the cases, or of whole groups of cases.

    Args:
        columns: (cases, metrics); NaN means no value.
        groups: Group of every case, for instance the patient. Whole groups are then drawn, because cases of one patient
            resemble each other, and drawing them one by one makes the interval too narrow.
        seed: Random seed.
        resamples: Number of draws.

    Returns:
        (resamples, metrics); NaN where a draw contains no value.
    """
    known = ~np.isnan(columns)
    sums, counts = np.where(known, columns, 0.0), known.astype(np.float64)
    if groups is not None:
        _, member = np.unique(np.asarray(groups), return_inverse=True)
        sums, counts = _sum_by_group(sums, member), _sum_by_group(counts, member)
    size = len(sums)
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, columns.shape[1]))
    step = max(1, _MAX_BLOCK // max(size, 1))
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = generator.multinomial(size, np.full(size, 1 / size), size=stop - start).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            means[start:stop] = (drawn @ sums) / (drawn @ counts)
    return means


def percentile_interval(means: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of resampled means; (NaN, NaN) if one is infinite or none exists."""
    known = means[~np.isnan(means)]
    if not known.size or not np.isfinite(known).all():
        return nan, nan
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def _sum_by_group(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    totals = np.zeros((int(member.max()) + 1, values.shape[1]))
    np.add.at(totals, member, values)
    return totals
