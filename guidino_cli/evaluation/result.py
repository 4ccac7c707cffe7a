"""The result of an evaluation, and how to ask it for a figure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isnan, nan

from guidino_cli.evaluation.scores import CaseResult, Job, Score
from guidino_cli.evaluation.statistics import Summary
from guidino_cli.metrics import METRICS, overlap
from guidino_cli.metrics.lesions import Lesions, pool
from guidino_cli.metrics.overlap import Counts

MEAN = "mean of classes"


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
        strata: The same summary for the cases of each stratum, by its name.
        group_count: Number of groups the intervals were drawn from, 0 if from cases.
    """

    job: Job
    cases: list[CaseResult]
    lines: list[Line]
    pooled: dict[str, Counts]
    unit: str
    absent: list[str]
    strata: dict[str, list[Line]] = field(default_factory=dict)
    group_count: int = 0

    def line(self, target: str, metric: str) -> Summary:
        """The summary of one figure."""
        return next(line.summary for line in self.lines if line.target == target and line.metric == metric)

    @property
    def headline(self) -> str:
        """The target that stands for the whole: the only one, or the mean over the classes."""
        return MEAN if len(self.job.targets) > 1 else self.job.targets[0].name

    def problems(self) -> list[CaseResult]:
        """Cases whose prediction is missing or could not be used."""
        return [case for case in self.cases if case.is_problem]


def pooled_figures(counts: Counts) -> dict[str, float]:
    """IoU and Dice of counts summed over cases: large objects weigh more than in a mean over cases."""
    return {"iou": overlap.iou(counts), "dice": overlap.dice(counts)}


def pooled_lesions(evaluation: Evaluation) -> dict[str, Lesions]:
    """The connected objects of all cases by target; empty unless a figure of objects was asked for."""
    found: dict[str, list[Lesions]] = {}
    for case in evaluation.cases:
        for score in case.scores:
            if score.lesions is not None:
                found.setdefault(score.target, []).append(score.lesions)
    return {target: pool(lesions) for target, lesions in found.items()}


def score_of(case: CaseResult, target: str) -> Score:
    """The score of one target of a case."""
    return next(score for score in case.scores if score.target == target)


def ranking_metric(result: Evaluation) -> str:
    """The figure by which cases are called worst and best: Dice, else the first share, else the first figure."""
    shares = [name for name in result.job.metrics if METRICS[name].kind == "share"]
    return "dice" if "dice" in shares else (shares or list(result.job.metrics))[0]


def case_value(case: CaseResult, metric: str, result: Evaluation) -> float:
    """A case's figure, averaged over the targets that have one; NaN if none has."""
    return _mean([score.values[metric] for score in case.scores if score.target not in result.absent])


@dataclass(frozen=True)
class Measured:
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


def measured(evaluation: Evaluation) -> Measured:
    """What the distances would be without the rule for cases in which there is nothing to measure."""
    names = [name for name in evaluation.job.metrics if METRICS[name].kind == "distance"]
    targets = [target.name for target in evaluation.job.targets if target.name not in evaluation.absent]
    scores = {target: [score_of(case, target) for case in evaluation.cases] for target in targets}
    pairs = [score for of_target in scores.values() for score in of_target if names]
    counted = [score.status for score in pairs if not isnan(score.values[names[0]])]
    zero = counted.count("both_empty")
    means = {name: _mean([_mean([s.values[name] for s in of if s.status == "ok"]) for of in scores.values()])
             for name in names}  # fmt: skip
    return Measured(counted.count("ok"), len(counted) - counted.count("ok") - zero, zero, means)


def status_counts(evaluation: Evaluation) -> dict[str, int]:
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
