"""From case scores to a summary: means with their denominators, spreads, bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan

import numpy as np

from guidino_cli.errors import DataError
from guidino_cli.evaluation.types import CaseResult, Score, ScoringConfig
from guidino_cli.metrics import METRICS, overlap
from guidino_cli.metrics.lesions import Lesions, pool_lesions
from guidino_cli.metrics.overlap import ConfusionCounts

BOOTSTRAP_RESAMPLES = 2000
_CHUNK = 2_000_000
"""Numbers in one block of resampling weights; keeps the memory of the bootstrap constant."""


@dataclass(frozen=True)
class SummaryStatistics:
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


def summarize(values: np.ndarray, interval: tuple[float, float] = (nan, nan)) -> SummaryStatistics:
    """Describe figures, NaN meaning "no figure for this case"; see `bootstrap` for the interval."""
    used = values[~np.isnan(values)]
    if not used.size:
        return SummaryStatistics(values.size, 0, *(nan,) * 9)
    q25, median, q75 = np.percentile(used, (25, 50, 75)) if np.isfinite(used).all() else (nan, nan, nan)
    std = float(used.std(ddof=1)) if used.size > 1 else nan
    ends = (float(used.min()), float(used.max()))
    return SummaryStatistics(
        values.size, used.size, float(used.mean()), std, float(median), float(q25), float(q75), *ends, *interval
    )


def bootstrap_means(
    columns: np.ndarray, groups: Sequence[str] | None = None, *, seed: int = 0, resamples: int = BOOTSTRAP_RESAMPLES
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


MEAN_OF_CLASSES = "mean of classes"


@dataclass(frozen=True)
class SummaryRow:
    """One row of the summary: a target and a figure.

    Attributes:
        target: Name of the target, or `MEAN` for the mean over the targets that have a figure.
        metric: Name from `METRICS`.
        summary: Over the cases. For `MEAN`: mean and interval of the mean of the targets' means; no spread.
    """

    target: str
    metric: str
    summary: SummaryStatistics


@dataclass(frozen=True)
class EvaluationResult:
    """The whole result.

    Attributes:
        config: What decided the figures.
        cases: One per truth, in order.
        lines: The summary, target by target.
        pooled: Counts of each target summed over all cases whose truth could be read.
        unit: "mm" or "px", of every distance.
        absent: Targets that no mask of either side has; nothing was scored for them.
        strata: The same summary for the cases of each stratum, by its name.
        group_count: Number of groups the intervals were drawn from, 0 if from cases.
    """

    config: ScoringConfig
    cases: list[CaseResult]
    lines: list[SummaryRow]
    pooled: dict[str, ConfusionCounts]
    unit: str
    absent: list[str]
    strata: dict[str, list[SummaryRow]] = field(default_factory=dict)
    group_count: int = 0

    def line(self, target: str, metric: str) -> SummaryStatistics:
        """The summary of one figure."""
        return next(line.summary for line in self.lines if line.target == target and line.metric == metric)

    @property
    def headline(self) -> str:
        """The target that stands for the whole: the only one, or the mean over the classes."""
        return MEAN_OF_CLASSES if len(self.config.targets) > 1 else self.config.targets[0].name

    def problems(self) -> list[CaseResult]:
        """Cases whose prediction is missing or could not be used."""
        return [case for case in self.cases if case.is_problem]


def pooled_overlap(counts: ConfusionCounts) -> dict[str, float]:
    """IoU and Dice of counts summed over cases: large objects weigh more than in a mean over cases."""
    return {"iou": overlap.iou(counts), "dice": overlap.dice(counts)}


def pool_all_lesions(evaluation: EvaluationResult) -> dict[str, Lesions]:
    """The connected objects of all cases by target; empty unless a figure of objects was asked for."""
    found: dict[str, list[Lesions]] = {}
    for case in evaluation.cases:
        for score in case.scores:
            if score.lesions is not None:
                found.setdefault(score.target, []).append(score.lesions)
    return {target: pool_lesions(lesions) for target, lesions in found.items()}


def get_score(case: CaseResult, target: str) -> Score:
    """The score of one target of a case."""
    return next(score for score in case.scores if score.target == target)


def ranking_metric(result: EvaluationResult) -> str:
    """The figure by which cases are called worst and best: Dice, else the first share, else the first figure."""
    shares = [name for name in result.config.metrics if METRICS[name].kind == "share"]
    return "dice" if "dice" in shares else (shares or list(result.config.metrics))[0]


def case_metric(case: CaseResult, metric: str, result: EvaluationResult) -> float:
    """A case's figure, averaged over the targets that have one; NaN if none has."""
    return _mean([score.values[metric] for score in case.scores if score.target not in result.absent])


@dataclass(frozen=True)
class MeasuredDistances:
    """The distances that could be measured, without those that a policy put in their place.

    Attributes:
        ok: Pairs of a case and a target of which both masks have a border.
        diagonal: Pairs that count as the diagonal of the image, because a mask is empty, missing or unusable.
        zero: Pairs that count as 0, because neither mask has the target.
        means: Mean over the measured pairs by name of the figure; with several targets the mean of their means.
    """

    ok: int
    diagonal: int
    zero: int
    means: dict[str, float]


def summarize_measured_distances(evaluation: EvaluationResult) -> MeasuredDistances:
    """What the distances would be without the rule for cases in which there is nothing to measure."""
    names = [name for name in evaluation.config.metrics if METRICS[name].kind == "distance"]
    targets = [target.name for target in evaluation.config.targets if target.name not in evaluation.absent]
    scores = {target: [get_score(case, target) for case in evaluation.cases] for target in targets}
    pairs = [score for of_target in scores.values() for score in of_target if names]
    counted = [score.status for score in pairs if not isnan(score.values[names[0]])]
    zero = counted.count("both_empty")
    means = {name: _mean([_mean([s.values[name] for s in of if s.status == "ok"]) for of in scores.values()])
             for name in names}  # fmt: skip
    return MeasuredDistances(counted.count("ok"), len(counted) - counted.count("ok") - zero, zero, means)


def count_statuses(evaluation: EvaluationResult) -> dict[str, int]:
    """Cases by what happened: total, scored, missing, failed; and case-target pairs where masks are empty."""
    problems = evaluation.problems()
    rows = [score.status for case in evaluation.cases for score in case.scores]
    missing = sum(case.pair.prediction is None and case.shape is not None for case in problems)
    return {
        "cases": len(evaluation.cases),
        "scored": len(evaluation.cases) - len(problems),
        "missing": missing,
        "failed": len(problems) - missing,
        "both_empty": rows.count("both_empty"),
        "truth_empty": rows.count("truth_empty"),
        "prediction_empty": rows.count("prediction_empty"),
    }


def _mean(values: Sequence[float]) -> float:
    """Mean of the values that exist; NaN without any."""
    known = [value for value in values if not isnan(value)]
    return sum(known) / len(known) if known else nan


def aggregate(
    config: ScoringConfig,
    cases: list[CaseResult],
    *,
    groups: list[str] | None = None,
    strata: list[str] | None = None,
) -> EvaluationResult:
    """Aggregate: mean over cases for each target, then the mean over the targets.

    Raises:
        DataError: No truth could be read, or some distances are in mm and others in px.
    """
    readable = [case for case in cases if case.shape is not None]
    if not readable:
        raise DataError(f"no truth can be read; the first: {cases[0].note}")
    units = {case.unit for case in readable}
    if len(units) > 1:
        raise DataError("some masks have a voxel size in mm and some have none; give --spacing or score them apart")
    absent = [name for name in (target.name for target in config.targets) if _is_absent(name, cases)]
    lines = _lines(config, cases, absent, groups)
    pooled = {target.name: _pool(target.name, cases) for target in config.targets}
    parts = {}
    for name in sorted(set(strata or [])):
        inside = [index for index, value in enumerate(strata or []) if value == name]
        of_groups = None if groups is None else [groups[index] for index in inside]
        parts[name] = _lines(config, [cases[index] for index in inside], absent, of_groups)
    return EvaluationResult(config, cases, lines, pooled, units.pop(), absent, parts, len(set(groups or [])))


def _lines(
    config: ScoringConfig, cases: list[CaseResult], absent: list[str], groups: list[str] | None
) -> list[SummaryRow]:
    targets = [target.name for target in config.targets]
    lines: list[SummaryRow] = []
    averages: dict[str, list[SummaryRow]] = {name: [] for name in config.metrics}
    draws: dict[str, list[np.ndarray]] = {name: [] for name in config.metrics}
    for target in targets:
        table = np.array([[get_score(case, target).values[name] for name in config.metrics] for case in cases])
        if target in absent:
            table = np.full_like(table, nan)
        means = bootstrap_means(table, groups, seed=config.options.seed)
        for place, name in enumerate(config.metrics):
            ends = interval(means[:, place]) if np.count_nonzero(~np.isnan(table[:, place])) > 1 else (nan, nan)
            lines.append(SummaryRow(target, name, summarize(table[:, place], ends)))
            averages[name].append(lines[-1])
            draws[name].append(means[:, place])
    if len(targets) > 1:
        lines += [
            SummaryRow(MEAN_OF_CLASSES, name, _mean_of_means(averages[name], draws[name])) for name in config.metrics
        ]
    return lines


def _mean_of_means(lines: list[SummaryRow], draws: list[np.ndarray]) -> SummaryStatistics:
    """Every class weighs the same, however many cases have it; classes without any figure are left out."""
    kept = [index for index, line in enumerate(lines) if line.summary.used]
    total, used = sum(line.summary.total for line in lines), sum(line.summary.used for line in lines)
    if not kept:
        return SummaryStatistics(total, 0, *(nan,) * 9)
    mean = float(np.mean([lines[index].summary.mean for index in kept]))
    # The same seed drew the same cases for every class, so the draws may be averaged one by one.
    has_interval = not any(isnan(lines[index].summary.ci_low) for index in kept)
    low, high = interval(np.mean([draws[index] for index in kept], axis=0)) if has_interval else (nan, nan)
    return replace(SummaryStatistics(total, used, *(nan,) * 9), mean=mean, ci_low=low, ci_high=high)


def _is_absent(target: str, cases: list[CaseResult]) -> bool:
    counts = [get_score(case, target).counts for case in cases]
    return all(item is None or item.predicted == item.true == 0 for item in counts)


def _pool(target: str, cases: list[CaseResult]) -> ConfusionCounts:
    known = [counts for case in cases if (counts := get_score(case, target).counts) is not None]
    return ConfusionCounts(*(sum(getattr(item, name) for item in known) for name in ("tp", "fp", "fn", "tn")))
