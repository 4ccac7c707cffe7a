"""Score all cases of a folder and sum them up, without losing one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan
from pathlib import Path

import numpy as np

from guidino_cli.data.classes import default_names
from guidino_cli.engine.pairing import Pairing, TruthSet
from guidino_cli.engine.policy import Policy
from guidino_cli.engine.reading import MaskReader, ReadOptions, SurpriseError, index_reader, make_reader
from guidino_cli.engine.scoring import CaseResult, Job, Score, Target, score_pair
from guidino_cli.engine.statistics import Summary, bootstrap, interval, summarise
from guidino_cli.errors import ConfigError, DataError, unknown
from guidino_cli.metrics import METRICS, overlap
from guidino_cli.metrics.overlap import Counts

MEAN = "mean of classes"
DEFAULT_METRICS = ("iou", "dice", "hd95")


@dataclass(frozen=True)
class Request:
    """What the user asked for, as far as it is not in the files.

    Attributes:
        metrics: Names from `METRICS`.
        policy: What counts when there is nothing to measure.
        spacing: Pixel size in mm along the array axes (one number for all), or None.
        tolerance: Of the NSD, in the unit of the distances.
        resample: Fit predictions of another size to the truth by the nearest pixel.
        seed: Of the bootstrap.
        truth: How the values of the truth are meant.
        predictions: How the values of the predictions are meant.
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    policy: Policy = field(default_factory=Policy)
    spacing: tuple[float, ...] | None = None
    tolerance: float = 2.0
    resample: bool = False
    seed: int = 0
    truth: ReadOptions = field(default_factory=ReadOptions)
    predictions: ReadOptions = field(default_factory=ReadOptions)


@dataclass(frozen=True)
class Line:
    """One row of the summary: a target and a figure.

    Attributes:
        target: Name of the target, or `MEAN` for the mean over the targets that have a figure.
        metric: Name from `METRICS`.
        summary: Over the cases. For `MEAN`: mean and interval of the mean of the targets' means; no spread.
    """

    target: str
    metric: str
    summary: Summary


@dataclass(frozen=True)
class Evaluation:
    """The whole result.

    Attributes:
        job: What decided the figures.
        cases: One per truth, in order.
        lines: The summary, target by target.
        pooled: Counts of each target summed over all cases whose truth could be read.
        unit: "mm" or "px", of every distance.
        absent: Targets that no mask of either side has; nothing was scored for them.
    """

    job: Job
    cases: list[CaseResult]
    lines: list[Line]
    pooled: dict[str, Counts]
    unit: str
    absent: list[str]

    def line(self, target: str, metric: str) -> Summary:
        """The summary of one figure."""
        return next(line.summary for line in self.lines if line.target == target and line.metric == metric)

    @property
    def headline(self) -> str:
        """The target that stands for the whole: the only one, or the mean over the classes."""
        return MEAN if len(self.job.targets) > 1 else self.job.targets[0].name

    def problems(self) -> list[CaseResult]:
        """Cases whose prediction is missing or could not be used."""
        return [case for case in self.cases if any(score.status in {"missing", "failed"} for score in case.scores)]


Progress = Callable[[Iterable[CaseResult], int], Iterable[CaseResult]]


def check_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """The names, without repetition.

    Raises:
        ConfigError: One of them does not exist, or none is given.
    """
    for name in names:
        if name not in METRICS:
            raise ConfigError(unknown("metric", name, METRICS))
    if not names:
        raise ConfigError(f"no metric named; known are {', '.join(METRICS)}")
    return tuple(dict.fromkeys(names))


def evaluate(
    pairing: Pairing, truths: TruthSet, request: Request, progress: Progress = lambda cases, total: cases
) -> Evaluation:
    """Score every pair.

    Args:
        pairing: Which prediction belongs to which truth.
        truths: Names of the classes, where known.
        request: What is measured and how.
        progress: Wraps the stream of cases, to show a bar.

    Raises:
        DataError: The values of one side's masks cannot be read one way only, or no truth can be read.
    """
    job = make_job(pairing, truths, request)
    try:
        cases = list(progress(score_all(pairing, job), len(pairing.pairs)))
    except SurpriseError:
        job = make_job(pairing, truths, request, look_at_all=True)
        cases = list(progress(score_all(pairing, job), len(pairing.pairs)))
    return sum_up(job, cases, seed=request.seed)


def make_job(pairing: Pairing, truths: TruthSet, request: Request, *, look_at_all: bool = False) -> Job:
    """Decide how both sides are read and which classes there are."""
    truth = _truth_reader(pairing, truths, request.truth, look_at_all=look_at_all)
    names = truths.classes or default_names(truth.rule.class_count)
    targets = tuple(Target(name, (label,)) for label, name in enumerate(names) if label)
    predictions = _prediction_reader(pairing, len(names), request.predictions, look_at_all=look_at_all)
    return Job(
        targets=targets,
        metrics=request.metrics,
        policy=request.policy,
        truth=truth,
        predictions=predictions,
        spacing=request.spacing,
        tolerance=request.tolerance,
        resample=request.resample,
    )


def score_all(pairing: Pairing, job: Job) -> Iterator[CaseResult]:
    """Score pair after pair, in order."""
    for pair in pairing.pairs:
        yield score_pair(pair, job)


def sum_up(job: Job, cases: list[CaseResult], *, seed: int) -> Evaluation:
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
    absent = [name for name in (target.name for target in job.targets) if _is_absent(name, cases)]
    lines = _lines(job, cases, absent, seed)
    pooled = {target.name: _pool(target.name, cases) for target in job.targets}
    return Evaluation(job, cases, lines, pooled, units.pop(), absent)


def pooled_figures(counts: Counts) -> dict[str, float]:
    """IoU and Dice of counts summed over cases: large objects weigh more than in a mean over cases."""
    return {"iou": overlap.iou(counts), "dice": overlap.dice(counts)}


def score_of(case: CaseResult, target: str) -> Score:
    """The score of one target of a case."""
    return next(score for score in case.scores if score.target == target)


def _lines(job: Job, cases: list[CaseResult], absent: list[str], seed: int, groups: None = None) -> list[Line]:
    targets = [target.name for target in job.targets]
    lines: list[Line] = []
    averages: dict[str, list[Line]] = {name: [] for name in job.metrics}
    draws: dict[str, list[np.ndarray]] = {name: [] for name in job.metrics}
    for target in targets:
        table = np.array([[score_of(case, target).values[name] for name in job.metrics] for case in cases])
        if target in absent:
            table = np.full_like(table, nan)
        means = bootstrap(table, groups, seed=seed)
        for column, name in enumerate(job.metrics):
            ends = interval(means[:, column]) if np.count_nonzero(~np.isnan(table[:, column])) > 1 else (nan, nan)
            lines.append(Line(target, name, summarise(table[:, column], ends)))
            averages[name].append(lines[-1])
            draws[name].append(means[:, column])
    if len(targets) > 1:
        lines += [Line(MEAN, name, _mean_of_means(averages[name], draws[name])) for name in job.metrics]
    return lines


def _mean_of_means(lines: list[Line], draws: list[np.ndarray]) -> Summary:
    """Every class weighs the same, however many cases have it; classes without any figure are left out."""
    kept = [index for index, line in enumerate(lines) if line.summary.used]
    total, used = sum(line.summary.total for line in lines), sum(line.summary.used for line in lines)
    if not kept:
        return Summary(total, 0, *(nan,) * 9)
    mean = float(np.mean([lines[index].summary.mean for index in kept]))
    # The same seed drew the same cases for every class, so the draws may be averaged one by one.
    has_interval = not any(isnan(lines[index].summary.ci_low) for index in kept)
    low, high = interval(np.mean([draws[index] for index in kept], axis=0)) if has_interval else (nan, nan)
    return replace(Summary(total, used, *(nan,) * 9), mean=mean, ci_low=low, ci_high=high)


def _truth_reader(pairing: Pairing, truths: TruthSet, options: ReadOptions, *, look_at_all: bool) -> MaskReader:
    if truths.classes is not None:
        return index_reader(len(truths.classes), ignore=options.ignore)
    paths = [pair.truth.path for pair in pairing.pairs]
    return _explained(paths, options, "the truth", look_at_all=look_at_all)


def _prediction_reader(pairing: Pairing, class_count: int, options: ReadOptions, *, look_at_all: bool) -> MaskReader:
    paths = [pair.prediction for pair in pairing.pairs if pair.prediction is not None]
    options = replace(options, class_count=options.class_count or class_count)
    return _explained(paths, options, "the predictions", look_at_all=look_at_all)


def _explained(paths: list[Path], options: ReadOptions, side: str, *, look_at_all: bool) -> MaskReader:
    try:
        return make_reader(paths, options, look_at_all=look_at_all)
    except DataError as error:
        raise DataError(f"{side}: {error}") from error


def _is_absent(target: str, cases: list[CaseResult]) -> bool:
    counts = [score_of(case, target).counts for case in cases]
    return all(item is None or item.predicted == item.true == 0 for item in counts)


def _pool(target: str, cases: list[CaseResult]) -> Counts:
    known = [counts for case in cases if (counts := score_of(case, target).counts) is not None]
    return Counts(*(sum(getattr(item, name) for item in known) for name in ("tp", "fp", "fn", "tn")))
