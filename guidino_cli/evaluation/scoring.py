"""What one prediction is worth against its truth: counts and figures for every target, and why some are missing."""

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot, nan
from typing import Literal

import numpy as np

from guidino_cli.errors import DataError
from guidino_cli.evaluation.grids import fit
from guidino_cli.evaluation.pairs.cases import Pair
from guidino_cli.evaluation.policy import Policy
from guidino_cli.evaluation.reading import Mask, MaskReader
from guidino_cli.metrics import INSTANCE, LESION, METRICS, SURFACE, overlap
from guidino_cli.metrics.instances import adapted_rand_error, variation_of_information
from guidino_cli.metrics.lesions import Lesions, lesion_f1, lesion_precision, lesion_recall, match_lesions
from guidino_cli.metrics.overlap import Counts
from guidino_cli.metrics.surface import (
    BorderDistances,
    average_distance,
    average_symmetric_distance,
    border_distances,
    hausdorff,
    hausdorff95,
    surface_dice,
)

Status = Literal["ok", "both_empty", "truth_empty", "prediction_empty", "missing", "failed"]

_FROM_COUNTS = {
    "dice": overlap.dice,
    "iou": overlap.iou,
    "precision": overlap.precision,
    "recall": overlap.recall,
    "specificity": overlap.specificity,
    "size_error": overlap.size_error,
}


@dataclass(frozen=True)
class Target:
    """What is scored: one class, or a region of several.

    Attributes:
        name: Heading in every report.
        labels: Class indices whose union is the target.
    """

    name: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """Everything that decides the figures of a case; the same for all cases of a run.

    Attributes:
        targets: What is scored, one row each.
        metrics: Names from `METRICS`, in the order of the report.
        policy: What counts when there is nothing to measure.
        truth: How truths are read.
        predictions: How predictions are read.
        spacing: Pixel size along the array axes in mm, for masks that do not carry one; None counts in pixels.
        tolerance: Of the NSD, in the unit of the spacing.
        lesion_iou: Overlap from which two connected objects may be partners.
        medpy: Take HD95, HD, ASD and ASSD from medpy itself, and note how far guidino's differ.
        resample: Bring a prediction of another grid to that of the truth by the nearest pixel, instead of failing.
        ignore_headers: Volumes belong together voxel by voxel, wherever their headers place them.
    """

    targets: tuple[Target, ...]
    metrics: tuple[str, ...]
    policy: Policy
    truth: MaskReader
    predictions: MaskReader
    spacing: tuple[float, ...] | None = None
    tolerance: float = 2.0
    lesion_iou: float = 0.1
    medpy: bool = False
    resample: bool = False
    ignore_headers: bool = False


@dataclass(frozen=True)
class Score:
    """One case and one target.

    Attributes:
        target: Name of the target.
        status: "ok", or why nothing could be measured.
        counts: Pixels; None if the truth could not be read.
        values: One figure per metric of the job, after the policy; NaN where the policy leaves the case out.
        lesions: Connected objects, where the job asks for them.
        deviation: How far medpy's surface figures differ from guidino's at most, where the job asks for medpy's.
    """

    target: str
    status: Status
    counts: Counts | None
    values: dict[str, float]
    lesions: Lesions | None = None
    deviation: float = 0.0


@dataclass(frozen=True)
class CaseResult:
    """One case.

    Attributes:
        pair: The files.
        scores: One per target, in the order of the job.
        shape: Grid of the truth, or None if it could not be read.
        spacing: Pixel size along the axes.
        unit: "mm" or "px".
        note: What went wrong or was done to the prediction; "" if nothing.
    """

    pair: Pair
    scores: tuple[Score, ...]
    shape: tuple[int, ...] | None
    spacing: tuple[float, ...] | None
    unit: str
    note: str = ""

    @property
    def is_problem(self) -> bool:
        """Whether the prediction is missing or could not be used."""
        return any(score.status in {"missing", "failed"} for score in self.scores)


def score_pair(pair: Pair, job: Job) -> CaseResult:
    """Read a pair and score it; a file that cannot be used becomes a failed case, never an exception.

    Raises:
        SurpriseError: A mask holds a value unknown when the reading rule was made.
    """
    try:
        truth = job.truth.read(pair.truth.path)
    except (DataError, MemoryError) as error:
        return failed_case(pair, job, _reason(error))
    spacing, unit = _spacing(truth, job)
    prediction, status, note = fit_prediction(pair, truth, job)
    scores = tuple(_score(target, prediction, truth, spacing, status, job) for target in job.targets)
    return CaseResult(pair, scores, truth.labels.shape, spacing, unit, note)


def failed_case(pair: Pair, job: Job, note: str) -> CaseResult:
    """A case of which nothing is known but that it failed: its shares are 0, its distances unknown."""
    scores = tuple(Score(target.name, "failed", None, _valued("failed", {}, nan, job)) for target in job.targets)
    return CaseResult(pair, scores, None, None, "mm" if job.spacing else "px", note)


def fit_prediction(pair: Pair, truth: Mask, job: Job) -> tuple[Mask, Status, str]:
    """The prediction in the grid of the truth (background where there is none), the status so far, and a note."""
    if pair.prediction is None:
        return _nothing(truth), "missing", "no prediction"
    try:
        mask = job.predictions.read(pair.prediction)
        mask, note = fit(mask, truth, resample=job.resample, ignore_headers=job.ignore_headers)
    except (DataError, MemoryError) as error:
        return _nothing(truth), "failed", _reason(error)
    return mask, "ok", note


def _nothing(truth: Mask) -> Mask:
    return Mask(np.zeros_like(truth.labels), instances=np.zeros_like(truth.labels))


def _score(
    target: Target, prediction: Mask, truth: Mask, spacing: tuple[float, ...], status: Status, job: Job
) -> Score:
    predicted, true = _select(prediction.labels, target), _select(truth.labels, target)
    ignored = truth.ignored
    if ignored is not None:
        predicted, true = predicted & ~ignored, true & ~ignored
    counts = overlap.count(predicted, true, ignored=0 if ignored is None else int(np.count_nonzero(ignored)))
    if status == "ok":
        status = _emptiness(counts)
    wanted, deviation = set(job.metrics), 0.0
    measured = {name: measure(counts) for name, measure in _FROM_COUNTS.items() if name in wanted}
    if status == "ok" and wanted & SURFACE:
        inside = job.policy.hd95 == "to-mask"
        distances = border_distances(predicted, true, spacing, ignored=ignored, inside_is_zero=inside)
        measured |= _border_figures(distances, job)
        if job.medpy:
            theirs = _medpy_figures(predicted, true, spacing, wanted)
            deviation = max((abs(measured[name] - value) for name, value in theirs.items()), default=0.0)
            measured |= theirs
    lesions = match_lesions(predicted, true, min_iou=job.lesion_iou) if wanted & LESION else None
    if lesions is not None:
        measured |= _lesion_figures(lesions)
    if wanted & INSTANCE and status != "both_empty":
        measured |= _instance_figures(prediction, truth)
    diagonal = hypot(*(size * step for size, step in zip(true.shape, spacing, strict=True)))
    return Score(target.name, status, counts, _valued(status, measured, diagonal, job), lesions, deviation)


def _medpy_figures(
    predicted: np.ndarray, true: np.ndarray, spacing: tuple[float, ...], wanted: set[str]
) -> dict[str, float]:
    """The same figures computed by medpy, which is GPL-3 and hence imported only when asked for by name."""
    from medpy.metric import binary

    figures = {"hd95": binary.hd95, "hd": binary.hd, "asd": binary.asd, "assd": binary.assd}
    return {name: float(figure(predicted, true, spacing)) for name, figure in figures.items() if name in wanted}


def _lesion_figures(lesions: Lesions) -> dict[str, float]:
    return {
        "lesion_f1": lesion_f1(lesions),
        "lesion_recall": lesion_recall(lesions),
        "lesion_precision": lesion_precision(lesions),
    }


def _instance_figures(prediction: Mask, truth: Mask) -> dict[str, float]:
    if prediction.instances is None or truth.instances is None:
        raise ValueError("instance figures need readers that keep instances")
    merged, split = variation_of_information(prediction.instances, truth.instances)
    error = adapted_rand_error(prediction.instances, truth.instances) if truth.labels.any() else nan
    return {"are": error, "voi": merged + split, "voi_merge": merged, "voi_split": split}


def _border_figures(distances: BorderDistances, job: Job) -> dict[str, float]:
    figures: dict[str, Callable[[], float]] = {
        "hd95": lambda: hausdorff95(distances, "max" if job.policy.hd95 == "max" else "pooled"),
        "hd": lambda: hausdorff(distances),
        "asd": lambda: average_distance(distances),
        "assd": lambda: average_symmetric_distance(distances),
        "nsd": lambda: surface_dice(distances, job.tolerance),
    }
    return {name: figure() for name, figure in figures.items() if name in job.metrics}


def _valued(status: Status, measured: dict[str, float], diagonal: float, job: Job) -> dict[str, float]:
    """The figures after the policy: what could be measured stays, unless the policy leaves the case out."""
    values = {}
    for name in job.metrics:
        metric = METRICS[name]
        value = measured.get(name, nan)
        worth = job.policy.worth(status, metric.kind)
        if worth == "exclude":
            value = nan
        elif worth is not None and (np.isnan(value) or status in {"missing", "failed"}):
            # Bits have no worst value: an unusable prediction counts as an empty one, which was measured.
            worst = {"share": 0.0, "error": 1.0, "distance": diagonal, "bits": value}[metric.kind]
            value = metric.best if worth == "best" else worst
        values[name] = float(value)
    return values


def _emptiness(counts: Counts) -> Status:
    if counts.predicted and counts.true:
        return "ok"
    if counts.true:
        return "prediction_empty"
    return "truth_empty" if counts.predicted else "both_empty"


def _select(labels: np.ndarray, target: Target) -> np.ndarray:
    chosen = labels == target.labels[0]
    for label in target.labels[1:]:
        chosen |= labels == label
    return chosen


def _spacing(truth: Mask, job: Job) -> tuple[tuple[float, ...], str]:
    if job.spacing is not None:
        if len(job.spacing) not in (1, truth.labels.ndim):
            raise DataError(f"--spacing has {len(job.spacing)} numbers, the masks {truth.labels.ndim} axes")
        return job.spacing if len(job.spacing) > 1 else job.spacing * truth.labels.ndim, "mm"
    if truth.spacing_mm is not None:
        return truth.spacing_mm, "mm"
    return (1.0,) * truth.labels.ndim, "px"


def _reason(error: Exception) -> str:
    return "not enough memory" if isinstance(error, MemoryError) else str(error)
