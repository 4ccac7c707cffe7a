"""Scores of the runs of a probe: mean over runs, and an interval by drawing patients, the same draws for all rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from guidino_cli.evaluation.probes.parts import Partition
from guidino_cli.evaluation.probes.problem import ProbeFit
from guidino_cli.evaluation.probes.samples import ProbeSamples
from guidino_cli.evaluation.statistics import BOOTSTRAP_RESAMPLES, percentile_interval
from guidino_cli.metrics.classification import weighted_auc, weighted_average_precision, weighted_decisions

MACRO = "macro"
"""Target of means over classes, and of what is measured over all samples."""
RANKING = ("auc", "ap")
DECISIONS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "jaccard")
METRIC_NAMES = (*RANKING, *DECISIONS, "jaccard_weighted")
_MAX_BLOCK = 4_000_000


@dataclass(frozen=True)
class ProbeScore:
    """One metric of one target.

    Attributes:
        mean: Over the runs in which it is defined; NaN if it is in none.
        low: Lower end of the 95 % interval over patients.
        high: Upper end.
        deviation: Over the runs, n - 1; NaN for one.
        defined: Classes for which it is defined in some run; of a single class 0 or 1.
        total: Classes.
    """

    mean: float
    low: float
    high: float
    deviation: float
    defined: int
    total: int


@dataclass(frozen=True, eq=False)
class RunScores:
    """Outcome of one run: which samples were tested, their scores and what was decided.

    Attributes:
        partition: The run.
        fit: Of the solver.
        called: (T, K) bool, decisions about the tested samples.
    """

    partition: Partition
    fit: ProbeFit
    called: np.ndarray


class ProbeScorer:
    """Scores rows of a report with the same draws of patients.

    Args:
        data: The samples.
        partitions: The runs, of whose test parts patients are drawn.
        seed: Of the draws.
    """

    def __init__(self, data: ProbeSamples, partitions: Sequence[Partition], *, seed: int = 0) -> None:
        self.data = data
        tested = np.unique(np.concatenate([part.test for part in partitions]))
        names, member = np.unique(data.groups[tested], return_inverse=True)
        self._member = np.full(len(data), -1)
        self._member[tested] = member
        generator = np.random.default_rng(seed)
        self.group_count = len(names)
        drawn = generator.multinomial(self.group_count, np.full(len(names), 1 / len(names)), size=BOOTSTRAP_RESAMPLES)
        # The first row is the set as it is.
        self._drawn = np.concatenate([np.ones((1, len(names)), np.int64), drawn])

    @property
    def targets(self) -> list[int]:
        """Columns that are scored: of two exclusive classes the second, else all."""
        count = len(self.data.classes)
        return [1] if count == 2 and not self.data.is_multilabel else list(range(count))

    def measure(self, runs: Sequence[RunScores]) -> dict[tuple[str, str], np.ndarray]:
        """(runs, draws) of each target and metric; the first draw is the set as it is."""
        collected: dict[tuple[str, str], list[np.ndarray]] = {}
        for run in runs:
            blocks: dict[tuple[str, str], list[np.ndarray]] = {}
            for weights in self._weights(run.partition.test):
                for key, values in self._measure_run(run, weights).items():
                    blocks.setdefault(key, []).append(values)
            for key, parts in blocks.items():
                collected.setdefault(key, []).append(np.concatenate(parts))
        return {key: np.stack(values) for key, values in collected.items()}

    def summarize(self, draws: dict[tuple[str, str], np.ndarray]) -> dict[tuple[str, str], ProbeScore]:
        """Mean, interval and spread of each target and metric of `measure`."""
        names = [self.data.classes[number] for number in self.targets]
        found = {}
        for (target, metric), values in draws.items():
            own = [target] if target != MACRO else names
            counted = [draws[name, metric][:, 0] for name in own if (name, metric) in draws]
            # What is measured over all samples has no classes to count.
            defined = sum(bool(np.isfinite(column).any()) for column in counted) if counted else int(
                np.isfinite(values[:, 0]).any()
            )  # fmt: skip
            found[target, metric] = _summarize(values, defined, len(counted) or 1)
        return found

    def _weights(self, test: np.ndarray) -> Iterator[np.ndarray]:
        """Blocks (B, T) of how often each tested sample is drawn."""
        step = max(1, _MAX_BLOCK // max(len(test), 1))
        for start in range(0, len(self._drawn), step):
            yield self._drawn[start : start + step, self._member[test]]

    def _measure_run(self, run: RunScores, weights: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        labels = self.data.labels[run.partition.test]
        found: dict[tuple[str, str], np.ndarray] = {}
        shares = []
        for number in self.targets:
            name = self.data.classes[number]
            known = labels[:, number] >= 0
            truth, scores, own = labels[known, number] == 1, run.fit.test[known, number], weights[:, known]
            found[name, "auc"] = weighted_auc(scores, truth, own)
            found[name, "ap"] = weighted_average_precision(scores, truth, own)
            decisions = weighted_decisions(run.called[known, number], truth, own)
            found |= {(name, metric): values for metric, values in decisions.items()}
            shares.append(own @ truth)
        names = [self.data.classes[number] for number in self.targets]
        for metric in (*RANKING, *DECISIONS):
            found[MACRO, metric] = _mean(np.stack([found[name, metric] for name in names]))
        jaccards = np.stack([found[name, "jaccard"] for name in names])
        total = np.sum(shares, axis=0)
        weighted = np.nansum(jaccards * np.stack(shares), axis=0)
        found[MACRO, "jaccard_weighted"] = np.divide(weighted, total, out=np.full(len(total), np.nan), where=total > 0)
        if not self.data.is_multilabel:
            found |= self._measure_exclusive(run, labels, weights)
            for name in names:
                # Against the rest they say little of exclusive classes, of which the accuracy is one number.
                del found[name, "accuracy"], found[name, "balanced_accuracy"]
        return found

    def _measure_exclusive(
        self, run: RunScores, labels: np.ndarray, weights: np.ndarray
    ) -> dict[tuple[str, str], np.ndarray]:
        """Accuracy over all samples, and the mean recall of the classes, of exclusive classes."""
        truth, called = labels.argmax(axis=1), run.called.argmax(axis=1)
        right = truth == called
        recalls = []
        for number in range(labels.shape[1]):
            total = weights @ (truth == number)
            hits = weights @ (right & (truth == number))
            recalls.append(np.divide(hits, total, out=np.full(len(total), np.nan), where=total > 0))
        everything = weights.sum(axis=1)
        accuracy = np.divide(weights @ right, everything, out=np.full(len(weights), np.nan), where=everything > 0)
        return {(MACRO, "accuracy"): accuracy, (MACRO, "balanced_accuracy"): _mean(np.stack(recalls))}


def score_difference(
    first: dict[tuple[str, str], np.ndarray], second: dict[tuple[str, str], np.ndarray], metric: str
) -> ProbeScore:
    """The first row minus the second in one macro metric, draw by draw; mean over the runs of each."""
    gap = _mean(first[MACRO, metric]) - _mean(second[MACRO, metric])
    return _summarize(gap[None], int(np.isfinite(gap[0])), 1)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is defined; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(values.shape[1:], np.nan), where=count > 0)


def _summarize(values: np.ndarray, defined: int, total: int) -> ProbeScore:
    """Of (runs, draws): the mean over runs of the first draw, and the interval of the others."""
    means = _mean(values)
    runs = values[:, 0][np.isfinite(values[:, 0])]
    deviation = float(runs.std(ddof=1)) if len(runs) > 1 else float("nan")
    low, high = percentile_interval(means[1:])
    return ProbeScore(float(means[0]), low, high, deviation, defined, total)
