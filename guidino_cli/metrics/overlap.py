"""Overlap of two masks, agreement of instance label maps, and ranking metrics of a score map."""

from dataclasses import dataclass
from math import isnan

import numpy as np


def adapted_rand_error(prediction: np.ndarray, truth: np.ndarray) -> float:
    """1 - F1 of the pairs of pixels that share an instance; pixels that are 0 in the truth do not count.

    Args:
        prediction: Whole numbers, 0 is the background.
        truth: The same shape, with at least one pixel that is not 0.
    """
    from skimage.metrics import adapted_rand_error as measure

    return float(measure(_numbered(truth), _numbered(prediction))[0])


def variation_of_information(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Bits by which the prediction merges true instances (under-segmentation) and splits them (over-segmentation).

    The background counts as one more instance, as in scikit-image's default. Both are 0 for equal partitions; their sum
    is the variation of information.

    Returns:
        (merged, split), H(truth | prediction) and H(prediction | truth).
    """
    from skimage.metrics import variation_of_information as measure

    merged, split = measure(_numbered(prediction), _numbered(truth))
    return float(merged), float(split)


def _numbered(labels: np.ndarray) -> np.ndarray:
    """Instances numbered without gaps, background 0: scikit-image's tables grow with the largest number."""
    values, inverse = np.unique(labels, return_inverse=True)
    inverse = inverse.reshape(labels.shape)
    return inverse if values[0] == 0 else inverse + 1


@dataclass(frozen=True)
class ConfusionCounts:
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


def confusion_counts(prediction: np.ndarray, truth: np.ndarray, *, ignored: int = 0) -> ConfusionCounts:
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
    return ConfusionCounts(tp, predicted - tp, true - tp, truth.size - ignored - predicted - true + tp)


def dice(counts: ConfusionCounts) -> float:
    """2 tp / (2 tp + fp + fn); NaN if both masks are empty."""
    return _share(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def iou(counts: ConfusionCounts) -> float:
    """tp / (tp + fp + fn); NaN if both masks are empty."""
    return _share(counts.tp, counts.tp + counts.fp + counts.fn)


def precision(counts: ConfusionCounts) -> float:
    """tp / (tp + fp); NaN if nothing was predicted."""
    return _share(counts.tp, counts.predicted)


def recall(counts: ConfusionCounts) -> float:
    """tp / (tp + fn); NaN if there was nothing to find."""
    return _share(counts.tp, counts.true)


def specificity(counts: ConfusionCounts) -> float:
    """tn / (tn + fp); NaN if the truth fills the image."""
    return _share(counts.tn, counts.tn + counts.fp)


def size_error(counts: ConfusionCounts) -> float:
    """|predicted - true| / true, in areas or volumes; NaN if the truth is empty."""
    return _share(abs(counts.predicted - counts.true), counts.true)


def mean_dice(labels: np.ndarray, truth: np.ndarray, *, num_classes: int) -> float:
    """Mean Dice over the foreground classes of two label maps; a class that is in neither counts as 1.

    Nothing there and nothing found is right: this is the Dice that chooses the best epoch.
    """
    scores = [dice(confusion_counts(labels == index, truth == index)) for index in range(1, num_classes)]
    return sum(1.0 if isnan(score) else score for score in scores) / len(scores)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def auroc(values: np.ndarray, truth: np.ndarray) -> float:
    """Probability that a foreground pixel has a larger value than a background pixel; equal values count half.

    Args:
        values: Any shape, finite.
        truth: Booleans of the same shape.

    Returns:
        Share in [0, 1]; 0.5 knows nothing. NaN where all pixels or none are foreground: there is nothing to rank.
    """
    if values.shape != truth.shape:
        raise ValueError(f"values are {values.shape}, truth is {truth.shape}")
    levels, places = np.unique(values, return_inverse=True)
    return auroc_from_histograms(*counts(places.reshape(truth.shape), truth, levels=len(levels)))


def counts(places: np.ndarray, truth: np.ndarray, *, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of foreground and of background at each of so many levels; `places` are indices of levels."""
    return np.bincount(places[truth], minlength=levels), np.bincount(places[~truth], minlength=levels)


def auroc_from_histograms(foreground: np.ndarray, background: np.ndarray) -> float:
    """AUROC of pixels sorted into levels, lowest first; two pixels of one level count half."""
    pairs = float(foreground.sum()) * float(background.sum())
    if pairs == 0:
        return float("nan")
    below = np.cumsum(background, dtype=np.float64) - background
    return float((foreground * (below + background / 2)).sum() / pairs)


def iou_from_histograms(foreground: np.ndarray, background: np.ndarray) -> np.ndarray:
    """IoU with the truth of everything at or above each level.

    Args:
        foreground: (..., levels) pixels of the truth at each level, lowest first.
        background: The other pixels, likewise.

    Returns:
        (..., levels) shares; NaN where neither the truth nor the level has a pixel.
    """
    found, extra = (np.cumsum(part[..., ::-1], axis=-1)[..., ::-1] for part in (foreground, background))
    union = foreground.sum(axis=-1, keepdims=True) + extra
    return np.divide(found, union, out=np.full(union.shape, np.nan), where=union > 0)
