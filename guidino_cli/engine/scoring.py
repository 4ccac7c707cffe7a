"""What one prediction is worth against its truth: counts and figures for every target, and why some are missing."""

from dataclasses import dataclass
from math import hypot, nan
from typing import Literal

import numpy as np

from guidino_cli.engine.pairing import Pair
from guidino_cli.engine.policy import Policy
from guidino_cli.engine.reading import Mask, MaskReader
from guidino_cli.errors import DataError
from guidino_cli.metrics import METRICS, overlap
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
_FROM_BORDERS = {"hd95", "hd", "asd", "assd", "nsd"}


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
        resample: Bring a prediction of another size to the grid of the truth by the nearest pixel, instead of failing.
    """

    targets: tuple[Target, ...]
    metrics: tuple[str, ...]
    policy: Policy
    truth: MaskReader
    predictions: MaskReader
    spacing: tuple[float, ...] | None = None
    tolerance: float = 2.0
    resample: bool = False


@dataclass(frozen=True)
class Score:
    """One case and one target.

    Attributes:
        target: Name of the target.
        status: "ok", or why nothing could be measured.
        counts: Pixels; None if the truth could not be read.
        values: One figure per metric of the job, after the policy; NaN where the policy leaves the case out.
    """

    target: str
    status: Status
    counts: Counts | None
    values: dict[str, float]


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


def score_pair(pair: Pair, job: Job) -> CaseResult:
    """Read a pair and score it; a file that cannot be used becomes a failed case, never an exception.

    Raises:
        SurpriseError: A mask holds a value unknown when the reading rule was made.
    """
    try:
        truth = job.truth.read(pair.truth.path)
    except (DataError, MemoryError) as error:
        unread = tuple(Score(target.name, "failed", None, _valued("failed", {}, nan, job)) for target in job.targets)
        return CaseResult(pair, unread, None, None, "mm" if job.spacing else "px", _reason(error))
    spacing, unit = _spacing(truth, job)
    labels, status, note = _prediction(pair, truth, job)
    scores = tuple(_score(target, labels, truth, spacing, status, job) for target in job.targets)
    return CaseResult(pair, scores, truth.labels.shape, spacing, unit, note)


def _prediction(pair: Pair, truth: Mask, job: Job) -> tuple[np.ndarray, Status, str]:
    """Labels in the grid of the truth (background where there is no prediction), the status so far, and a note."""
    nothing = np.zeros_like(truth.labels)
    if pair.prediction is None:
        return nothing, "missing", "no prediction"
    try:
        mask = job.predictions.read(pair.prediction)
        labels, note = _fitted(mask, truth, resample=job.resample)
    except (DataError, MemoryError) as error:
        return nothing, "failed", _reason(error)
    return labels, "ok", note


def _fitted(mask: Mask, truth: Mask, *, resample: bool) -> tuple[np.ndarray, str]:
    """The predicted labels in the grid of the truth."""
    note = ""
    if mask.affine is not None and truth.affine is not None:
        note = _compare_grids(mask.affine, truth.affine)
    if mask.labels.shape == truth.labels.shape:
        return mask.labels, note
    found, expected = _size(mask.labels.shape), _size(truth.labels.shape)
    if not resample or mask.labels.ndim != truth.labels.ndim:
        turned = " (turned by 90 degrees?)" if mask.labels.shape == truth.labels.shape[::-1] else ""
        raise DataError(f"is {found}, the truth {expected}{turned}; --resample nearest fits it to the truth")
    return nearest(mask.labels, truth.labels.shape), f"resampled from {found} to {expected} by the nearest pixel"


def _compare_grids(affine: np.ndarray, expected: np.ndarray) -> str:
    """A note if the voxels of two volumes lie elsewhere; an error if their axes point elsewhere."""
    from nibabel.orientations import aff2axcodes

    ours, theirs = "".join(aff2axcodes(affine)), "".join(aff2axcodes(expected))
    if ours != theirs:
        raise DataError(f"its axes point to {ours}, those of the truth to {theirs}; save it in the truth's orientation")
    if not np.allclose(affine, expected, atol=1e-3):
        return "its header places the voxels elsewhere than the truth's; the truth's was used"
    return ""


def nearest(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Labels brought to another size; every new pixel takes the old pixel its centre falls into."""
    for axis, size in enumerate(shape):
        old = labels.shape[axis]
        labels = labels.take(((np.arange(size) + 0.5) * old / size).astype(np.intp), axis=axis)
    return labels


def _score(
    target: Target, labels: np.ndarray, truth: Mask, spacing: tuple[float, ...], status: Status, job: Job
) -> Score:
    predicted, true = _select(labels, target), _select(truth.labels, target)
    ignored = truth.ignored
    if ignored is not None:
        predicted, true = predicted & ~ignored, true & ~ignored
    counts = overlap.count(predicted, true, ignored=0 if ignored is None else int(np.count_nonzero(ignored)))
    if status == "ok":
        status = _emptiness(counts)
    measured = {name: measure(counts) for name, measure in _FROM_COUNTS.items() if name in job.metrics}
    if status == "ok" and _FROM_BORDERS & set(job.metrics):
        inside = job.policy.hd95 == "to-mask"
        distances = border_distances(predicted, true, spacing, ignored=ignored, inside_is_zero=inside)
        measured |= _border_figures(distances, job)
    diagonal = hypot(*(size * step for size, step in zip(true.shape, spacing, strict=True)))
    return Score(target.name, status, counts, _valued(status, measured, diagonal, job))


def _border_figures(distances: BorderDistances, job: Job) -> dict[str, float]:
    return {
        "hd95": hausdorff95(distances, "max" if job.policy.hd95 == "max" else "pooled"),
        "hd": hausdorff(distances),
        "asd": average_distance(distances),
        "assd": average_symmetric_distance(distances),
        "nsd": surface_dice(distances, job.tolerance),
    }


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
            worst = {"share": 0.0, "error": 1.0, "distance": diagonal}[metric.kind]
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


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) + (" (height x width)" if len(shape) == 2 else "")


def _reason(error: Exception) -> str:
    return "not enough memory" if isinstance(error, MemoryError) else str(error)
