"""The figures of two masks that hold something to measure, by name."""

from collections.abc import Callable
from math import nan

import numpy as np

from guidino_cli.evaluation.reading import Mask
from guidino_cli.evaluation.scores import Job
from guidino_cli.metrics import overlap
from guidino_cli.metrics.instances import adapted_rand_error, variation_of_information
from guidino_cli.metrics.lesions import Lesions, lesion_f1, lesion_precision, lesion_recall
from guidino_cli.metrics.overlap import Counts
from guidino_cli.metrics.surface import (
    BorderDistances,
    average_distance,
    average_symmetric_distance,
    hausdorff,
    hausdorff95,
    surface_dice,
)

_FROM_COUNTS = {
    "dice": overlap.dice,
    "iou": overlap.iou,
    "precision": overlap.precision,
    "recall": overlap.recall,
    "specificity": overlap.specificity,
    "size_error": overlap.size_error,
}


def count_figures(counts: Counts, wanted: set[str]) -> dict[str, float]:
    """Of counted pixels."""
    return {name: measure(counts) for name, measure in _FROM_COUNTS.items() if name in wanted}


def medpy_figures(
    predicted: np.ndarray, true: np.ndarray, spacing: tuple[float, ...], wanted: set[str]
) -> dict[str, float]:
    """The same figures computed by medpy, which is GPL-3 and hence imported only when asked for by name."""
    from medpy.metric import binary

    figures = {"hd95": binary.hd95, "hd": binary.hd, "asd": binary.asd, "assd": binary.assd}
    return {name: float(figure(predicted, true, spacing)) for name, figure in figures.items() if name in wanted}


def lesion_figures(lesions: Lesions) -> dict[str, float]:
    """Of connected objects."""
    return {
        "lesion_f1": lesion_f1(lesions),
        "lesion_recall": lesion_recall(lesions),
        "lesion_precision": lesion_precision(lesions),
    }


def instance_figures(prediction: Mask, truth: Mask) -> dict[str, float]:
    """Of whole numbers that are objects; the adapted Rand error is NaN where the truth has none."""
    if prediction.instances is None or truth.instances is None:
        raise ValueError("instance figures need readers that keep instances")
    merged, split = variation_of_information(prediction.instances, truth.instances)
    error = adapted_rand_error(prediction.instances, truth.instances) if truth.labels.any() else nan
    return {"are": error, "voi": merged + split, "voi_merge": merged, "voi_split": split}


def border_figures(distances: BorderDistances, job: Job) -> dict[str, float]:
    """Of the distances between two borders."""
    figures: dict[str, Callable[[], float]] = {
        "hd95": lambda: hausdorff95(distances, "max" if job.policy.hd95 == "max" else "pooled"),
        "hd": lambda: hausdorff(distances),
        "asd": lambda: average_distance(distances),
        "assd": lambda: average_symmetric_distance(distances),
        "nsd": lambda: surface_dice(distances, job.tolerance),
    }
    return {name: figure() for name, figure in figures.items() if name in job.metrics}
