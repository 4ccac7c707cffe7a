"""Rows of a probe's report: each kind of features with each solver, over all runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from guidino_cli.data.feature_folder import BACKBONE, PIXELS, RANDOM, FeatureFolder
from guidino_cli.errors import DataError
from guidino_cli.evaluation.probes.decisions import decide
from guidino_cli.evaluation.probes.parts import Partition, inner_folds
from guidino_cli.evaluation.probes.problem import ProbeFit, ProbeProblem, rank_of
from guidino_cli.evaluation.probes.samples import Pool, ProbeSamples, collect_samples, pooled_vectors
from guidino_cli.evaluation.probes.scores import ProbeScore, ProbeScorer, RunScores

CONTROL_NAMES = {RANDOM: "random network", PIXELS: "raw pixels"}


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """Vectors of one kind in one folder, and what tables call them.

    Attributes:
        folder: The features.
        kind: "backbone", "random" or "pixels".
        name: For tables.
    """

    folder: FeatureFolder
    kind: str
    name: str

    @property
    def is_control(self) -> bool:
        """Whether it is a random network or the pixels."""
        return self.kind != BACKBONE


@dataclass(frozen=True, eq=False)
class ProbeRow:
    """One row of a report.

    Attributes:
        source: The features.
        solver: Name of the solver, such as "exact" or "k 20".
        runs: Of all partitions.
        draws: See `ProbeScorer.measure`.
        scores: By target and metric.
        thresholds: Of each class in the first run; empty where the highest score decides.
        attention: Of each run, the attention of each tested bag; empty without it.
    """

    source: FeatureSource
    solver: str
    runs: Sequence[RunScores]
    draws: dict[tuple[str, str], np.ndarray]
    scores: dict[tuple[str, str], ProbeScore]
    thresholds: Sequence[float] = ()
    attention: Sequence[Sequence[np.ndarray]] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """Such as "guidino-tiny, exact"."""
        return f"{self.source.name}, {self.solver}"

    @property
    def converged(self) -> bool | None:
        """Whether every run has converged; None where nothing is solved."""
        states = [run.fit.is_converged for run in self.runs]
        return None if None in states else all(states)

    @property
    def ending(self) -> str:
        """How the first run ended, and what was chosen in it: "not converged: 50 steps"."""
        fit = self.runs[0].fit
        state = {True: "converged: ", False: "not converged: ", None: ""}[self.converged]
        return "; ".join(filter(None, [f"{state}{fit.remark}", fit.choice]))

    @property
    def val_rank(self) -> tuple[float, float]:
        """Mean over the runs of what settings are chosen by."""
        is_multilabel = self.source.folder.is_multilabel
        ranks = [rank_of(run.fit.val, run.fit.val_labels, is_multilabel=is_multilabel) for run in self.runs]
        return float(np.mean([rank[0] for rank in ranks])), float(np.mean([rank[1] for rank in ranks]))


def best_rows(rows: Sequence[ProbeRow]) -> list[ProbeRow]:
    """Of each kind of features the row that is best on validation, the first of equals; in the order of the rows."""
    found: dict[FeatureSource, ProbeRow] = {}
    for row in rows:
        best = found.setdefault(row.source, row)
        if row.val_rank > best.val_rank:
            found[row.source] = row
    return list(found.values())


def list_sources(folders: Sequence[FeatureFolder]) -> list[FeatureSource]:
    """Rows of features: of each folder the backbone and its random twin, and the pixels of the first that has them."""
    names = _tell_apart(folders)
    sources, has_pixels = [], False
    for folder, name in zip(folders, names, strict=True):
        for kind in folder.kinds:
            if kind == PIXELS and has_pixels:
                continue
            has_pixels |= kind == PIXELS
            control = CONTROL_NAMES.get(kind, "")
            shown = f"{control} (as {name})" if kind == RANDOM and len(folders) > 1 else control
            sources.append(FeatureSource(folder, kind, shown or name))
    return sources


def _tell_apart(folders: Sequence[FeatureFolder]) -> list[str]:
    """A name for each folder: its backbone; where several have it, also its settings, and its path if it takes that."""
    names = [folder.name for folder in folders]
    detailed = []
    for folder in folders:
        settings = folder.about["settings"]
        detail = f"{settings['token']}, {settings['layers']} of its blocks, {settings['px']} px"
        detailed.append(folder.name if names.count(folder.name) == 1 else f"{folder.name} ({detail})")
    return [
        name if detailed.count(name) == 1 else f"{name}, {folder.path}"
        for folder, name in zip(folders, detailed, strict=True)
    ]


def collect_alike(folders: Sequence[FeatureFolder]) -> ProbeSamples:
    """The samples of folders that must be of one data set.

    Raises:
        DataError: Another has other samples, labels or parts.
    """
    first = collect_samples(folders[0])
    for folder in folders[1:]:
        other = collect_samples(folder)
        keys = [
            [(sample.id, sample.labels, sample.split, sample.fold, sample.group) for sample in data.samples]
            for data in (first, other)
        ]
        if keys[0] != keys[1] or first.classes != other.classes:
            raise DataError(
                f"{folder.path}: has other samples or labels than {folders[0].path}; make both of the same DATA"
            )
    return first


Solver = Callable[[ProbeProblem], ProbeFit]


def run_solvers(
    sources: Sequence[FeatureSource],
    data: ProbeSamples,
    partitions: Sequence[Partition],
    solvers: Sequence[tuple[str, Solver]],
    *,
    scorer: ProbeScorer,
    pool: Pool,
    threshold: str,
    on_run: Callable[[], None],
) -> list[ProbeRow]:
    """Solve every pair of features and solver on one vector a sample."""
    inner = [inner_of(data, part) for part in partitions]
    rows = []
    for source in sources:
        vectors = pooled_vectors(source.folder, source.kind, data.samples, pool)
        for name, solve in solvers:
            fits = []
            for part, folds in zip(partitions, inner, strict=True):
                fits.append(solve(_problem(vectors, data, part, folds)))
                on_run()
            rows.append(make_row(source, name, partitions, fits, data=data, scorer=scorer, threshold=threshold))
    return rows


def make_row(
    source: FeatureSource,
    solver: str,
    partitions: Sequence[Partition],
    fits: Sequence[ProbeFit],
    *,
    data: ProbeSamples,
    scorer: ProbeScorer,
    threshold: str,
    attention: Sequence[Sequence[np.ndarray]] = (),
) -> ProbeRow:
    """Decide and score the fits of all runs."""
    runs, thresholds = [], []
    for part, fit in zip(partitions, fits, strict=True):
        called, own = decide(fit, is_multilabel=data.is_multilabel, rule=threshold)
        runs.append(RunScores(part, fit, called))
        thresholds.append(own)
    draws = scorer.measure(runs)
    return ProbeRow(source, solver, runs, draws, scorer.summarize(draws), thresholds[0], attention)


def inner_of(data: ProbeSamples, part: Partition) -> np.ndarray:
    """Folds of the training part where no validation part chooses the settings, else zeros."""
    return np.zeros(len(part.train), np.int64) if part.val.size else inner_folds(data, part.train, part.seed)


def _problem(vectors: np.ndarray, data: ProbeSamples, part: Partition, inner: np.ndarray) -> ProbeProblem:
    labels = data.labels
    return ProbeProblem(
        train=vectors[part.train],
        train_labels=labels[part.train],
        val=vectors[part.val],
        val_labels=labels[part.val],
        test=vectors[part.test],
        inner=inner,
        is_multilabel=data.is_multilabel,
        seed=part.seed,
    )
