"""Means with their denominators, spreads and bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

RESAMPLES = 2000
_CHUNK = 2_000_000
"""Numbers in one block of resampling weights; keeps the memory of the bootstrap constant."""


@dataclass(frozen=True)
class Summary:
    """One figure of one target over all cases.

    Attributes:
        total: Cases that should have a figure.
        used: Cases that have one; the rest was left out by the policy or could not be measured.
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


def summarise(values: np.ndarray, interval: tuple[float, float] = (nan, nan)) -> Summary:
    """Describe figures, NaN meaning "no figure for this case"; see `bootstrap` for the interval."""
    used = values[~np.isnan(values)]
    if not used.size:
        return Summary(values.size, 0, *(nan,) * 9)
    q25, median, q75 = np.percentile(used, (25, 50, 75)) if np.isfinite(used).all() else (nan, nan, nan)
    std = float(used.std(ddof=1)) if used.size > 1 else nan
    ends = (float(used.min()), float(used.max()))
    return Summary(
        values.size, used.size, float(used.mean()), std, float(median), float(q25), float(q75), *ends, *interval
    )


def bootstrap(
    columns: np.ndarray, groups: Sequence[str] | None = None, *, seed: int = 0, resamples: int = RESAMPLES
) -> np.ndarray:
    """Resampled means: draw cases (or whole groups of cases) with replacement and average again.

    Args:
        columns: (cases, figures); NaN means no figure.
        groups: Group of every case, for instance the patient; groups are then drawn whole, because cases of one patient
            resemble each other and drawing them one by one makes the interval too narrow.
        seed: Of the draw.
        resamples: Number of draws.

    Returns:
        (resamples, figures); NaN where a draw holds no figure at all.
    """
    known = ~np.isnan(columns)
    sums, counts = np.where(known, columns, 0.0), known.astype(np.float64)
    if groups is not None:
        _, member = np.unique(np.asarray(groups), return_inverse=True)
        sums, counts = _by_group(sums, member), _by_group(counts, member)
    size = len(sums)
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, columns.shape[1]))
    step = max(1, _CHUNK // max(size, 1))
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = generator.multinomial(size, np.full(size, 1 / size), size=stop - start).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            means[start:stop] = (drawn @ sums) / (drawn @ counts)
    return means


def interval(means: np.ndarray) -> tuple[float, float]:
    """95 % percentile interval of resampled means; NaN if a figure is infinite or never there."""
    known = means[~np.isnan(means)]
    if not known.size or not np.isfinite(known).all():
        return nan, nan
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)


def _by_group(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    totals = np.zeros((int(member.max()) + 1, values.shape[1]))
    np.add.at(totals, member, values)
    return totals
