"""Confusion counts and metrics of one prediction, for each target."""

from collections.abc import Callable
from math import hypot, log2, nan, prod

import numpy as np

from guidino_cli.errors import DataError
from guidino_cli.evaluation.cases import Pair
from guidino_cli.evaluation.grids import align_to_truth, complete_slices
from guidino_cli.evaluation.masks import Mask
from guidino_cli.evaluation.types import CaseResult, Score, ScoreStatus, ScoringConfig, Target
from guidino_cli.metrics import INSTANCE_METRICS, LESION_METRICS, METRICS, SURFACE_METRICS, VOLUME_METRICS, overlap
from guidino_cli.metrics.instances import compare_instances
from guidino_cli.metrics.lesions import (
    Lesions,
    count_unmatched,
    lesion_f1,
    lesion_precision,
    lesion_recall,
    match_lesions,
)
from guidino_cli.metrics.overlap import ConfusionCounts, adapted_rand_error, variation_of_information
from guidino_cli.metrics.surface import (
    SurfaceDistances,
    average_surface_distance,
    average_symmetric_surface_distance,
    hausdorff95,
    hausdorff_distance,
    normalized_surface_dice,
    surface_distances,
)

_FROM_COUNTS = {
    "dice": overlap.dice,
    "iou": overlap.iou,
    "precision": overlap.precision,
    "recall": overlap.recall,
    "specificity": overlap.specificity,
    "size_error": overlap.size_error,
}


def overlap_metrics(counts: ConfusionCounts, wanted: set[str]) -> dict[str, float]:
    """Metrics of pixel counts, those in `wanted`."""
    return {name: measure(counts) for name, measure in _FROM_COUNTS.items() if name in wanted}


def medpy_metrics(
    predicted: np.ndarray, true: np.ndarray, spacing: tuple[float, ...], wanted: set[str]
) -> dict[str, float]:
    """Surface metrics computed by medpy, which is GPL-3 and therefore imported only on request."""
    from medpy.metric import binary

    metrics = {"hd95": binary.hd95, "hd": binary.hd, "asd": binary.asd, "assd": binary.assd}
    return {name: float(metric(predicted, true, spacing)) for name, metric in metrics.items() if name in wanted}


def lesion_metrics(lesions: Lesions) -> dict[str, float]:
    """Metrics of connected objects."""
    return {
        "lesion_f1": lesion_f1(lesions),
        "lesion_recall": lesion_recall(lesions),
        "lesion_precision": lesion_precision(lesions),
    }


def false_volumes(predicted: np.ndarray, true: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    """Volumes in ml of the false objects of both sides; that of missed ones is NaN if the truth has none to miss."""
    ml = prod(spacing) / 1000
    missed = count_unmatched(true, predicted) * ml if true.any() else nan
    return {"fp_volume": count_unmatched(predicted, true) * ml, "fn_volume": missed}


def instance_metrics(prediction: Mask, truth: Mask) -> dict[str, float]:
    """Metrics of instance label maps; the adapted Rand error is NaN if the truth has no instance.

    The bits are NaN where nothing is predicted and one instance fills the image: as partitions the two are equal.
    """
    if prediction.instances is None or truth.instances is None:
        raise ValueError("instance metrics need readers that keep instances")
    merged, split = variation_of_information(prediction.instances, truth.instances)
    error = adapted_rand_error(prediction.instances, truth.instances) if truth.labels.any() else nan
    is_filled = truth.labels.all() and truth.instances.min() == truth.instances.max()
    if is_filled and not prediction.labels.any():
        merged = split = nan
    return {"are": error, "voi": merged + split, "voi_merge": merged, "voi_split": split}


def surface_metrics(distances: SurfaceDistances, config: ScoringConfig) -> dict[str, float]:
    """Metrics of surface distances, those in the configuration."""
    metrics: dict[str, Callable[[], float]] = {
        "hd95": lambda: hausdorff95(distances, "max" if config.policy.hd95 == "max" else "pooled"),
        "hd": lambda: hausdorff_distance(distances),
        "asd": lambda: average_surface_distance(distances),
        "assd": lambda: average_symmetric_surface_distance(distances),
        "nsd": lambda: normalized_surface_dice(distances, config.options.tolerance),
    }
    return {name: metric() for name, metric in metrics.items() if name in config.metrics}


def score_case(pair: Pair, config: ScoringConfig) -> CaseResult:
    """Read and score a pair; an unusable file gives a failed case, not an exception.

    Raises:
        UnexpectedValueError: A mask contains a value that was unknown when its reader was made.
    """
    try:
        truth = config.truth.read(pair.truth.path)
        spacing, unit = _resolve_spacing(truth, config)
    except (DataError, MemoryError) as error:
        return failed_case(pair, config, _failure_reason(error))
    truth, prediction, status, note = read_aligned_prediction(pair, truth, config)
    scores = tuple(_score(target, prediction, truth, spacing, status, config) for target in config.targets)
    return CaseResult(pair, scores, truth.labels.shape, spacing, unit, note)


def failed_case(pair: Pair, config: ScoringConfig, note: str) -> CaseResult:
    """Result of a case that could not be scored: shares are 0; `summary.aggregate` sets distances and bits to their
    worst, which depends on the size of the images."""
    scores = tuple(
        Score(target.name, "failed", None, _apply_policy("failed", {}, nan, nan, config)) for target in config.targets
    )
    return CaseResult(pair, scores, None, None, "mm" if config.spacing else "px", note)


def read_aligned_prediction(pair: Pair, truth: Mask, config: ScoringConfig) -> tuple[Mask, Mask, ScoreStatus, str]:
    """Read the prediction of a case.

    Returns:
        The truth, with the slices that its file leaves out as far as the prediction reaches; the prediction in its grid
        (background if there is none); a provisional status; and a note.
    """
    if pair.prediction is None:
        return truth, _background(truth), "missing", "no prediction"
    try:
        mask = config.predictions.read(pair.prediction)
        resample, ignore_headers = config.options.resample is not None, config.options.ignore_headers
        if not ignore_headers:
            mask, truth = complete_slices(mask, truth, resample=resample)
        mask, note = align_to_truth(mask, truth, resample=resample, ignore_headers=ignore_headers)
    except (DataError, MemoryError) as error:
        return truth, _background(truth), "failed", _failure_reason(error)
    return truth, mask, "ok", note


def _background(truth: Mask) -> Mask:
    return Mask(np.zeros_like(truth.labels), instances=np.zeros_like(truth.labels))


def _score(
    target: Target,
    prediction: Mask,
    truth: Mask,
    spacing: tuple[float, ...],
    status: ScoreStatus,
    config: ScoringConfig,
) -> Score:
    predicted, true = _binarize(prediction.labels, target), _binarize(truth.labels, target)
    ignored = truth.ignored
    if ignored is not None:
        predicted, true = predicted & ~ignored, true & ~ignored
    counts = overlap.confusion_counts(predicted, true, ignored=0 if ignored is None else int(np.count_nonzero(ignored)))
    if status == "ok":
        status = _emptiness_status(counts)
    wanted, deviation = set(config.metrics), 0.0
    measured = overlap_metrics(counts, wanted)
    if status == "ok" and wanted & SURFACE_METRICS:
        to_mask = config.policy.hd95 == "to-mask"
        distances = surface_distances(predicted, true, spacing, ignored=ignored, inside_is_zero=to_mask)
        measured |= surface_metrics(distances, config)
        if config.medpy:
            by_medpy = medpy_metrics(predicted, true, spacing, wanted)
            deviation = max((abs(measured[name] - value) for name, value in by_medpy.items()), default=0.0)
            measured |= by_medpy
    lesions = match_lesions(predicted, true, min_iou=config.options.lesion_iou) if wanted & LESION_METRICS else None
    if lesions is not None:
        measured |= lesion_metrics(lesions)
    if wanted & INSTANCE_METRICS and status != "both_empty":
        measured |= instance_metrics(prediction, truth)
    if wanted & VOLUME_METRICS:
        measured |= false_volumes(predicted, true, spacing)
        if status in {"missing", "failed"}:
            # The worst false positive is a prediction of all background; without the truth's border it touches nothing.
            measured["fp_volume"] = (counts.fp + counts.tn) * prod(spacing) / 1000
    diagonal = hypot(*(size * step for size, step in zip(true.shape, spacing, strict=True)))
    if config.policy.rule_for(status, "error") is not None and status in {"missing", "failed"}:
        measured |= _worst_unbounded(counts, wanted)
    values = _apply_policy(status, measured, diagonal, log2(true.size), config)
    compared = None
    if wanted & INSTANCE_METRICS and prediction.instances is not None and truth.instances is not None:
        compared = compare_instances(prediction.instances, truth.instances)
    return Score(target.name, status, counts, values, lesions, deviation, compared)


def _worst_unbounded(counts: ConfusionCounts, wanted: set[str]) -> dict[str, float]:
    """Worst size error of an unusable prediction: that of a prediction of the whole image, at least 1."""
    if "size_error" not in wanted or not counts.true:
        return {}
    return {"size_error": max(1.0, (counts.fp + counts.tn) / counts.true)}


def _apply_policy(
    status: ScoreStatus, measured: dict[str, float], diagonal: float, bits: float, config: ScoringConfig
) -> dict[str, float]:
    """Metrics after the policy, which replaces values that were not measured and may leave the case out.

    Args:
        status: Why there may be nothing to measure.
        measured: Values by metric.
        diagonal: Worst distance.
        bits: Worst variation of information: that of n pixels is at most log2(n).
        config: Metrics and policy.
    """
    values = {}
    for name in config.metrics:
        metric = METRICS[name]
        value = measured.get(name, nan)
        rule = config.policy.rule_for(status, metric.kind)
        # Where the truth fills the image, no prediction has a specificity, an empty one neither.
        is_undefined = name == "specificity" and status == "prediction_empty" and np.isnan(value)
        if rule == "exclude" or is_undefined:
            value = nan
        elif rule is not None and (np.isnan(value) or status in {"missing", "failed"}):
            error = max(1.0, value) if name == "size_error" and not np.isnan(value) else 1.0
            worst = {"share": 0.0, "error": error, "distance": diagonal, "bits": bits, "volume": value}[metric.kind]
            value = metric.best if rule == "best" else worst
        values[name] = float(value)
    return values


def _emptiness_status(counts: ConfusionCounts) -> ScoreStatus:
    if counts.predicted and counts.true:
        return "ok"
    if counts.true:
        return "prediction_empty"
    return "truth_empty" if counts.predicted else "both_empty"


def _binarize(labels: np.ndarray, target: Target) -> np.ndarray:
    chosen = labels == target.labels[0]
    for label in target.labels[1:]:
        chosen |= labels == label
    return chosen


def _resolve_spacing(truth: Mask, config: ScoringConfig) -> tuple[tuple[float, ...], str]:
    if config.spacing is not None:
        if len(config.spacing) not in (1, truth.labels.ndim):
            raise DataError(f"--spacing has {len(config.spacing)} numbers, the masks {truth.labels.ndim} axes")
        return config.spacing if len(config.spacing) > 1 else config.spacing * truth.labels.ndim, "mm"
    if truth.spacing_mm is not None:
        return truth.spacing_mm, "mm"
    return (1.0,) * truth.labels.ndim, "px"


def _failure_reason(error: Exception) -> str:
    return "not enough memory" if isinstance(error, MemoryError) else str(error)
