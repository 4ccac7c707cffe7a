"""Summary of case scores: rows of statistics by target and metric, pooled counts, and what the means do not cover."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import hypot, isnan, log2, nan, prod

import numpy as np

from guidino_cli.errors import DataError
from guidino_cli.evaluation.names import natural_key
from guidino_cli.evaluation.statistics import SummaryStatistics, bootstrap_means, percentile_interval, summarize
from guidino_cli.evaluation.types import CaseResult, Score, ScoringConfig
from guidino_cli.metrics import INSTANCE_METRICS, METRICS, VOLUME_METRICS, overlap
from guidino_cli.metrics.instances import InstanceComparison
from guidino_cli.metrics.lesions import Lesions, lesion_f1, lesion_precision, lesion_recall, pool_lesions
from guidino_cli.metrics.overlap import ConfusionCounts

MEAN_OF_CLASSES = "mean of classes"


@dataclass(frozen=True)
class SummaryRow:
    """Statistics of one target and metric.

    Attributes:
        target: Name of the target, or `MEAN_OF_CLASSES` for the mean over the targets that have a value.
        metric: Name from `METRICS`.
        statistics: Over the cases. For `MEAN_OF_CLASSES`: mean and interval of the mean of the targets' means.
    """

    target: str
    metric: str
    statistics: SummaryStatistics


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of all cases and their summary.

    Attributes:
        config: How the cases were scored.
        cases: One per truth, in order.
        rows: The summary, target by target.
        pooled: Counts of each target summed over all cases; every pixel of a case that failed counts as wrong.
        unit: "mm" or "px", the unit of all distances.
        absent: Targets that occur in no mask of either side; nothing was scored for them.
        strata: Summary of the cases of each stratum, by its name.
        strata_by: What the names of the strata are values of, such as "scanner"; "" without strata.
        group_count: Number of groups that the bootstrap draws from, 0 if it draws cases.
    """

    config: ScoringConfig
    cases: list[CaseResult]
    rows: list[SummaryRow]
    pooled: dict[str, ConfusionCounts]
    unit: str
    absent: list[str]
    strata: dict[str, list[SummaryRow]] = field(default_factory=dict)
    group_count: int = 0
    strata_by: str = ""

    def statistics(self, target: str, metric: str) -> SummaryStatistics:
        """Statistics of one target and metric."""
        return next(row.statistics for row in self.rows if row.target == target and row.metric == metric)

    @property
    def headline(self) -> str:
        """The target that represents the result: the only one, or the mean over the classes."""
        return headline_of(self.config)

    @property
    def has_pixel_metrics(self) -> bool:
        """Whether anything but instances was asked for; pooled pixels say nothing about which instance is which."""
        return bool(set(self.config.metrics) - INSTANCE_METRICS)

    def listed_cases(self) -> list[CaseResult]:
        """The cases in the order of lists: numbers in names count as numbers, so 2 comes before 10."""
        return sorted(self.cases, key=lambda case: natural_key(case.pair.truth.case))

    def problems(self) -> list[CaseResult]:
        """Cases whose prediction is missing or could not be used, in the order of lists."""
        return [case for case in self.listed_cases() if case.is_problem]


def headline_of(config: ScoringConfig) -> str:
    """The target that represents a result: the only one, or the mean over the classes."""
    return MEAN_OF_CLASSES if len(config.targets) > 1 else config.targets[0].name


def pooled_overlap(counts: ConfusionCounts) -> dict[str, float]:
    """IoU and Dice of pooled counts, in which large objects weigh more than in a mean over cases."""
    return {"iou": overlap.iou(counts), "dice": overlap.dice(counts)}


def pool_all_lesions(evaluation: EvaluationResult) -> dict[str, Lesions]:
    """Connected objects of all cases by target; empty without a lesion metric."""
    found: dict[str, list[Lesions]] = {}
    for case in evaluation.cases:
        for score in case.scores:
            if score.lesions is not None:
                found.setdefault(score.target, []).append(score.lesions)
    return {target: pool_lesions(lesions) for target, lesions in found.items()}


def pooled_lesion_scores(evaluation: EvaluationResult) -> dict[str, dict[str, float]]:
    """F1, recall and precision of the connected objects of all cases by target; empty without a lesion metric.

    NaN where a failure left a number unknown: the false objects of an unusable prediction, which only bound F1 and
    precision, or all objects of a truth that cannot be read. Counting none would raise the score.
    """
    scores = {}
    for target, lesions in pool_all_lesions(evaluation).items():
        own = [get_score(case, target) for case in evaluation.cases]
        lost_truth = any(score.lesions is None for score in own)
        lost = lost_truth or any(score.status in {"missing", "failed"} for score in own)
        scores[target] = {
            "f1": nan if lost else lesion_f1(lesions),
            "recall": nan if lost_truth else lesion_recall(lesions),
            "precision": nan if lost else lesion_precision(lesions),
        }
    return scores


def get_score(case: CaseResult, target: str) -> Score:
    """Score of one target of a case."""
    return next(score for score in case.scores if score.target == target)


def ranking_metric(result: EvaluationResult) -> str:
    """The metric that ranks cases from worst to best: Dice, else the first share, else the first metric."""
    shares = [name for name in result.config.metrics if METRICS[name].kind == "share"]
    return "dice" if "dice" in shares else (shares or list(result.config.metrics))[0]


def case_metric(case: CaseResult, metric: str, result: EvaluationResult) -> float:
    """A metric of one case, averaged over the targets that have a value; NaN if none has."""
    return _mean([score.values[metric] for score in case.scores if score.target not in result.absent])


@dataclass(frozen=True)
class MeasuredDistances:
    """Distances that were measured, as opposed to those that the policy substitutes.

    Attributes:
        ok: Pairs of a case and a target with two nonempty masks.
        diagonal: Pairs that count as the diagonal of the image, because a mask is empty, missing or unusable.
        zero: Pairs that count as 0, because both masks are empty.
        means: Mean over the measured pairs by metric; with several targets, the mean of their means.
    """

    ok: int
    diagonal: int
    zero: int
    means: dict[str, float]


def summarize_measured_distances(evaluation: EvaluationResult) -> MeasuredDistances:
    """Count measured and substituted distances, and average the measured ones."""
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
    """Number of cases: all, scored, missing, failed; and of case-target pairs with empty masks."""
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


def compared_instances(evaluation: EvaluationResult) -> dict[str, InstanceComparison]:
    """Status of the true instances of each case with a readable truth; empty without an instance metric."""
    found = {case.pair.truth.case: case.scores[0].instances for case in evaluation.listed_cases()}
    return {name: comparison for name, comparison in found.items() if comparison is not None}


def cases_without_truth(evaluation: EvaluationResult) -> dict[str, list[str]]:
    """Names, by target, of the cases whose truth does not contain it; empty unless volumes of objects are measured."""
    if not VOLUME_METRICS & set(evaluation.config.metrics):
        return {}
    cases = [case for case in evaluation.listed_cases() if case.shape is not None]
    return {
        target.name: [case.pair.truth.case for case in cases if not _true_pixels(get_score(case, target.name))]
        for target in evaluation.config.targets
    }


def _true_pixels(score: Score) -> int:
    return 0 if score.counts is None else score.counts.true


def _mean(values: Sequence[float]) -> float:
    """Mean without NaN; NaN if nothing remains."""
    known = [value for value in values if not isnan(value)]
    return sum(known) / len(known) if known else nan


def aggregate(
    config: ScoringConfig,
    cases: list[CaseResult],
    *,
    groups: list[str] | None = None,
    strata: list[str] | None = None,
) -> EvaluationResult:
    """Summarize cases: mean over cases for each target, then mean over targets.

    Raises:
        DataError: No truth could be read, or some distances are in mm and others in px.
    """
    readable = [case for case in cases if case.shape is not None]
    if not readable:
        raise DataError(f"no truth can be read; the first: {cases[0].note}")
    units = {case.unit for case in readable}
    if len(units) > 1:
        raise DataError("some masks have a voxel size in mm and some have none; give --spacing or score them apart")
    if VOLUME_METRICS & set(config.metrics):
        _require_voxel_sizes(readable)
    cases = [case if case.shape is not None else _fill_unreadable(case, readable, config) for case in cases]
    absent = [name for name in (target.name for target in config.targets) if _is_absent(name, cases)]
    rows = _summarize_targets(config, cases, absent, groups)
    pooled = {target.name: _pool_counts(target.name, cases, config, absent) for target in config.targets}
    parts = {}
    for name in sorted(set(strata or []), key=natural_key):
        members = [index for index, value in enumerate(strata or []) if value == name]
        member_groups = None if groups is None else [groups[index] for index in members]
        parts[name] = _summarize_targets(config, [cases[index] for index in members], absent, member_groups)
    return EvaluationResult(config, cases, rows, pooled, units.pop(), absent, parts, len(set(groups or [])))


def _require_voxel_sizes(cases: list[CaseResult]) -> None:
    """Refuse volumes in ml of images."""
    for case in cases:
        if len(case.shape or ()) != 3 or case.unit != "mm":
            raise DataError(
                f"{case.pair.truth.path}: is an image, but fp_volume and fn_volume are in ml of volumes; leave them out"
            )


def _fill_unreadable(case: CaseResult, readable: list[CaseResult], config: ScoringConfig) -> CaseResult:
    """A case whose truth cannot be read, with the worst distances and bits that any case of the evaluation could have.

    The size of its image is unknown, so that of the largest readable one is used.
    """
    if config.policy.failed != "worst":
        return case
    grids = [(item.shape, item.spacing) for item in readable if item.shape is not None and item.spacing is not None]
    diagonal = max(hypot(*(size * step for size, step in zip(shape, spacing, strict=True))) for shape, spacing in grids)
    largest = max(prod(shape) for shape, _ in grids)
    ml = max(prod(shape) * prod(spacing) / 1000 for shape, spacing in grids)
    worst = {"distance": diagonal, "bits": log2(largest), "volume": ml}
    scores = tuple(
        replace(score, values={
            name: worst.get(METRICS[name].kind, value) if isnan(value) else value
            for name, value in score.values.items()
        })
        for score in case.scores
    )  # fmt: skip
    return replace(case, scores=scores)


def _summarize_targets(
    config: ScoringConfig, cases: list[CaseResult], absent: list[str], groups: list[str] | None
) -> list[SummaryRow]:
    rows: list[SummaryRow] = []
    class_rows: dict[str, list[SummaryRow]] = {name: [] for name in config.metrics}
    draws: dict[str, list[np.ndarray]] = {name: [] for name in config.metrics}
    for target in (item.name for item in config.targets):
        table = np.array([[get_score(case, target).values[name] for name in config.metrics] for case in cases])
        if target in absent:
            table = np.full_like(table, nan)
        means = bootstrap_means(table, groups, seed=config.options.seed)
        for index, name in enumerate(config.metrics):
            values = table[:, index]
            ci = percentile_interval(means[:, index]) if _count_draws(values, groups) > 1 else (nan, nan)
            rows.append(SummaryRow(target, name, summarize(values, ci)))
            class_rows[name].append(rows[-1])
            draws[name].append(means[:, index])
    if len(config.targets) > 1:
        for name in config.metrics:
            rows.append(SummaryRow(MEAN_OF_CLASSES, name, _mean_of_means(class_rows[name], draws[name])))
    return rows


def _count_draws(values: np.ndarray, groups: Sequence[str] | None) -> int:
    """Cases, or groups of cases, with a value; a single one has no interval."""
    known = ~np.isnan(values)
    return int(known.sum()) if groups is None else len(np.unique(np.asarray(groups)[known]))


def _mean_of_means(rows: list[SummaryRow], draws: list[np.ndarray]) -> SummaryStatistics:
    """Mean over classes with equal weights, however many cases have them; classes without a value are left out."""
    statistics = [row.statistics for row in rows]
    total, used = sum(item.total for item in statistics), sum(item.used for item in statistics)
    kept = [(item, means) for item, means in zip(statistics, draws, strict=True) if item.used]
    if not kept:
        return SummaryStatistics(total, 0, *(nan,) * 9)
    mean = float(np.mean([item.mean for item, _ in kept]))
    # The same seed drew the same cases for every class, so draws may be averaged one by one.
    has_interval = not any(isnan(item.ci_low) for item, _ in kept)
    low, high = percentile_interval(np.mean([means for _, means in kept], axis=0)) if has_interval else (nan, nan)
    return replace(SummaryStatistics(total, used, *(nan,) * 9), mean=mean, ci_low=low, ci_high=high)


def _is_absent(target: str, cases: list[CaseResult]) -> bool:
    counts = [get_score(case, target).counts for case in cases]
    return all(item is None or item.predicted == item.true == 0 for item in counts)


def _pool_counts(target: str, cases: list[CaseResult], config: ScoringConfig, absent: list[str]) -> ConfusionCounts:
    """Counts of all cases. Where the policy calls for the worst, an unusable prediction has every pixel wrong.

    tp / (tp + fp + fn) is then at most what any prediction gives, so no failure raises it. The size of an image whose
    truth cannot be read is unknown, so that of the largest readable one is used. A class that occurs nowhere has no
    score.
    """
    largest = max(prod(case.shape) for case in cases if case.shape is not None)
    total = ConfusionCounts(0, 0, 0, 0)
    for score in (get_score(case, target) for case in cases):
        counts, status = score.counts, score.status
        is_worst = status in {"missing", "failed"} and config.policy.rule_for(status, "share") == "worst"
        if is_worst and target not in absent:
            counts = ConfusionCounts(0, 0, largest, 0) if counts is None else _all_wrong(counts)
        if counts is not None:
            total = _add(total, counts)
    return total


def _all_wrong(counts: ConfusionCounts) -> ConfusionCounts:
    """Counts of the complement of the truth as prediction."""
    return ConfusionCounts(0, counts.fp + counts.tn, counts.true, 0)


def _add(first: ConfusionCounts, second: ConfusionCounts) -> ConfusionCounts:
    sums = (getattr(first, name) + getattr(second, name) for name in ("tp", "fp", "fn", "tn"))
    return ConfusionCounts(*sums)
