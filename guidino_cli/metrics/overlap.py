"""Overlap of two masks, from exact pixel counts."""

from dataclasses import dataclass
from math import isnan

import numpy as np


@dataclass(frozen=True)
class Counts:
    """Pixels (or voxels) of one class: true positive, false positive, false negative, true negative."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def predicted(self) -> int:
        """Pixels of the prediction."""
        return self.tp + self.fp

    @property
    def true(self) -> int:
        """Pixels of the truth."""
        return self.tp + self.fn


def count(prediction: np.ndarray, truth: np.ndarray, *, ignored: int = 0) -> Counts:
    """Count the four kinds of pixels of two boolean masks.

    Args:
        prediction: Boolean mask of any dimension.
        truth: Boolean mask of the same shape.
        ignored: Number of pixels that belong to neither class nor background; both masks must be False there.

    Raises:
        ValueError: If the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"shapes differ: {prediction.shape} and {truth.shape}")
    tp = int(np.count_nonzero(prediction & truth))
    predicted, true = int(np.count_nonzero(prediction)), int(np.count_nonzero(truth))
    return Counts(tp, predicted - tp, true - tp, truth.size - ignored - predicted - true + tp)


def dice(counts: Counts) -> float:
    """2 tp / (2 tp + fp + fn); NaN if both masks are empty."""
    return _share(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def iou(counts: Counts) -> float:
    """tp / (tp + fp + fn); NaN if both masks are empty."""
    return _share(counts.tp, counts.tp + counts.fp + counts.fn)


def precision(counts: Counts) -> float:
    """tp / (tp + fp); NaN if nothing was predicted."""
    return _share(counts.tp, counts.predicted)


def recall(counts: Counts) -> float:
    """tp / (tp + fn); NaN if there was nothing to find."""
    return _share(counts.tp, counts.true)


def specificity(counts: Counts) -> float:
    """tn / (tn + fp); NaN if the truth fills the image."""
    return _share(counts.tn, counts.tn + counts.fp)


def size_error(counts: Counts) -> float:
    """|predicted - true| / true, in areas or volumes; NaN if the truth is empty."""
    return _share(abs(counts.predicted - counts.true), counts.true)


def mean_dice(labels: np.ndarray, truth: np.ndarray, *, num_classes: int) -> float:
    """Mean Dice over the foreground classes of two label maps; a class that is in neither counts as 1.

    Nothing there and nothing found is right: this is the Dice that chooses the best epoch.
    """
    scores = [dice(count(labels == index, truth == index)) for index in range(1, num_classes)]
    return sum(1.0 if isnan(score) else score for score in scores) / len(scores)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
