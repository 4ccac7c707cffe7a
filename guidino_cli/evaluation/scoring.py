"""What one prediction is worth against its truth: counts and figures for every target, and why some are missing."""

from math import hypot, nan

import numpy as np

from guidino_cli.errors import DataError
from guidino_cli.evaluation.figures import (
    border_figures,
    count_figures,
    instance_figures,
    lesion_figures,
    medpy_figures,
)
from guidino_cli.evaluation.grids import fit
from guidino_cli.evaluation.pairs.cases import Pair
from guidino_cli.evaluation.reading import Mask
from guidino_cli.evaluation.scores import CaseResult, Job, Score, Status, Target
from guidino_cli.metrics import INSTANCE, LESION, METRICS, SURFACE, overlap
from guidino_cli.metrics.lesions import match_lesions
from guidino_cli.metrics.overlap import Counts
from guidino_cli.metrics.surface import border_distances


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
    measured = count_figures(counts, wanted)
    if status == "ok" and wanted & SURFACE:
        inside = job.policy.hd95 == "to-mask"
        distances = border_distances(predicted, true, spacing, ignored=ignored, inside_is_zero=inside)
        measured |= border_figures(distances, job)
        if job.medpy:
            theirs = medpy_figures(predicted, true, spacing, wanted)
            deviation = max((abs(measured[name] - value) for name, value in theirs.items()), default=0.0)
            measured |= theirs
    lesions = match_lesions(predicted, true, min_iou=job.lesion_iou) if wanted & LESION else None
    if lesions is not None:
        measured |= lesion_figures(lesions)
    if wanted & INSTANCE and status != "both_empty":
        measured |= instance_figures(prediction, truth)
    diagonal = hypot(*(size * step for size, step in zip(true.shape, spacing, strict=True)))
    return Score(target.name, status, counts, _valued(status, measured, diagonal, job), lesions, deviation)


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
