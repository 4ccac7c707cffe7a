"""Overlap of two masks, agreement of instance label maps, and ranking metrics of a score map."""

from dataclasses import dataclass
from math import isnan

import numpy as np


def adapted_rand_error(prediction: np.ndarray, truth: np.ndarray) -> float:
    """1 - F1 of the pixel pairs that share an instance; pixels that are 0 in the truth do not count.

    It is 1 if nothing is predicted: scikit-image, which takes the background of a prediction for an instance, would
    give 0 where the truth has one instance. It is 0 if neither side has a pair.

    Args:
        prediction: Integer instance labels, 0 is the background.
        truth: Labels of the same shape, at least one of them not 0.
    """
    from skimage.metrics import adapted_rand_error as measure

    if not prediction.any():
        return 1.0
    # Without any pair its F1 is 0 / 0.
    with np.errstate(invalid="ignore"):
        error = float(measure(_renumber(truth), _renumber(prediction))[0])
    return 0.0 if isnan(error) else error


def variation_of_information(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Bits by which the prediction merges true instances (under-segmentation) and splits them (over-segmentation).

    The background counts as one more instance, as in scikit-image's default. Both are 0 for equal partitions; their sum
    is the variation of information.

    Returns:
        (merged, split), H(truth | prediction) and H(prediction | truth).
    """
    from skimage.metrics import variation_of_information as measure

    merged, split = measure(_renumber(prediction), _renumber(truth))
    return float(merged), float(split)


def _renumber(labels: np.ndarray) -> np.ndarray:
    """Number instances without gaps, background 0: scikit-image's tables grow with the largest number."""
    values, inverse = np.unique(labels, return_inverse=True)
    inverse = inverse.reshape(labels.shape)
    return inverse if values[0] == 0 else inverse + 1


@dataclass(frozen=True)
class ConfusionCounts:
    """Confusion counts of one class in pixels (or voxels): true and false positives, false and true negatives."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def predicted(self) -> int:
        """Predicted pixels."""
        return self.tp + self.fp

    @property
    def true(self) -> int:
        """True pixels."""
        return self.tp + self.fn


def confusion_counts(prediction: np.ndarray, truth: np.ndarray, *, ignored: int = 0) -> ConfusionCounts:
    """Count true and false positives and negatives of two boolean masks.

    Args:
        prediction: Boolean mask of any dimension.
        truth: Boolean mask of the same shape.
        ignored: Number of pixels to leave out; both masks must be False there.

    Raises:
        ValueError: If the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"shapes differ: {prediction.shape} and {truth.shape}")
    tp = int(np.count_nonzero(prediction & truth))
    predicted, true = int(np.count_nonzero(prediction)), int(np.count_nonzero(truth))
    return ConfusionCounts(tp, predicted - tp, true - tp, truth.size - ignored - predicted - true + tp)


def dice(counts: ConfusionCounts) -> float:
    """2 tp / (2 tp + fp + fn); NaN if both masks are empty."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def iou(counts: ConfusionCounts) -> float:
    """tp / (tp + fp + fn); NaN if both masks are empty."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


def precision(counts: ConfusionCounts) -> float:
    """tp / (tp + fp); NaN if nothing was predicted."""
    return _ratio(counts.tp, counts.predicted)


def recall(counts: ConfusionCounts) -> float:
    """tp / (tp + fn); NaN if there was nothing to find."""
    return _ratio(counts.tp, counts.true)


def specificity(counts: ConfusionCounts) -> float:
    """tn / (tn + fp); NaN if the truth fills the image."""
    return _ratio(counts.tn, counts.tn + counts.fp)


def size_error(counts: ConfusionCounts) -> float:
    """|predicted - true| / true, in areas or volumes; NaN if the truth is empty."""
    return _ratio(abs(counts.predicted - counts.true), counts.true)


def mean_dice(labels: np.ndarray, truth: np.ndarray, *, num_classes: int, ignored: np.ndarray | None = None) -> float:
    """Mean Dice over the foreground classes of two label maps; a class in neither counts as 1.

    This is the Dice that selects the best epoch.

    Args:
        labels: Predicted class indices of any shape.
        truth: True ones of the same shape.
        num_classes: K, background included, at least 2.
        ignored: Booleans of that shape: pixels that do not count; None if all count.
    """
    if ignored is not None:
        labels, truth = (np.where(ignored, 0, values) for values in (labels, truth))
    scores = [dice(confusion_counts(labels == index, truth == index)) for index in range(1, num_classes)]
    return sum(1.0 if isnan(score) else score for score in scores) / len(scores)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def auroc(values: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve: P(foreground pixel > background pixel); ties count half.

    Args:
        values: Any shape, finite.
        truth: Booleans of the same shape.

    Returns:
        Value in [0, 1], 0.5 at chance; NaN if all pixels or none are foreground.
    """
    if values.shape != truth.shape:
        raise ValueError(f"values are {values.shape}, truth is {truth.shape}")
    levels, indices = np.unique(values, return_inverse=True)
    return auroc_from_histograms(*level_histograms(indices.reshape(truth.shape), truth, levels=len(levels)))


def level_histograms(indices: np.ndarray, truth: np.ndarray, *, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Foreground and background pixels at each level; `indices` are those of the pixels' levels."""
    return np.bincount(indices[truth], minlength=levels), np.bincount(indices[~truth], minlength=levels)


def auroc_from_histograms(foreground: np.ndarray, background: np.ndarray) -> float:
    """AUROC from histograms over levels, lowest first; ties within a level count half."""
    pairs = float(foreground.sum()) * float(background.sum())
    if pairs == 0:
        return float("nan")
    below = np.cumsum(background, dtype=np.float64) - background
    return float((foreground * (below + background / 2)).sum() / pairs)


def iou_from_histograms(foreground: np.ndarray, background: np.ndarray) -> np.ndarray:
    """IoU of the truth with the pixels at or above each level.

    Args:
        foreground: (..., levels) foreground pixels at each level, lowest first.
        background: (..., levels) background pixels at each level.

    Returns:
        (..., levels) shares; NaN where neither the truth nor the level has a pixel.
    """
    found, extra = (np.cumsum(part[..., ::-1], axis=-1)[..., ::-1] for part in (foreground, background))
    union = foreground.sum(axis=-1, keepdims=True) + extra
    return np.divide(found, union, out=np.full(union.shape, np.nan), where=union > 0)
