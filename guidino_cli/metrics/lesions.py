"""Lesion-wise metrics: matching of connected objects, F1, recall by size, and the volume of false objects."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np


@dataclass(frozen=True)
class Lesions:
    """Connected objects of one case.

    Attributes:
        sizes: Pixels (voxels) of every true object.
        found: Whether each of them matches a predicted object.
        extra: Predicted objects without a match.
    """

    sizes: tuple[int, ...]
    found: tuple[bool, ...]
    extra: int


@dataclass(frozen=True)
class SizeBin:
    """True objects of one quarter of the sizes.

    Attributes:
        smallest: Smallest size in the bin, in pixels.
        largest: Largest size in the bin.
        found: Number of objects found.
        total: Number of objects.
    """

    smallest: int
    largest: int
    found: int
    total: int

    @property
    def recall(self) -> float:
        """Share found; NaN for an empty bin."""
        return self.found / self.total if self.total else nan


def match_lesions(prediction: np.ndarray, truth: np.ndarray, *, min_iou: float = 0.1) -> Lesions:
    """Match true and predicted objects one to one.

    Objects are connected across corners (8 neighbours, 26 in 3-D). Two objects may match if their intersection over
    union reaches `min_iou`; a maximum matching is taken. So neither one blob over everything nor fragments of one
    object count more than once.

    Args:
        prediction: Boolean mask of any dimension.
        truth: Boolean mask of the same shape.
        min_iou: Above 0, at most 1.
    """
    from scipy.ndimage import label
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    connected = np.ones((3,) * truth.ndim)
    predicted, predicted_count = label(prediction, connected)
    true, true_count = label(truth, connected)
    sizes = np.bincount(true.ravel(), minlength=true_count + 1)
    areas = np.bincount(predicted.ravel(), minlength=predicted_count + 1)
    both = prediction & truth
    pairs, shared = np.unique(np.stack((true[both], predicted[both])), axis=1, return_counts=True)
    union = sizes[pairs[0]] + areas[pairs[1]] - shared
    rows, columns = pairs[:, shared >= min_iou * union] - 1
    graph = csr_array((np.ones(len(rows)), (rows, columns)), shape=(true_count, predicted_count))
    partner = maximum_bipartite_matching(graph, perm_type="column") if len(rows) else np.full(true_count, -1)
    found = partner >= 0
    return Lesions(tuple(sizes[1:].tolist()), tuple(found.tolist()), predicted_count - int(found.sum()))


def count_unmatched(first: np.ndarray, second: np.ndarray) -> int:
    """Voxels of the objects of one mask that have no voxel in common with the other.

    Objects are connected across edges but not corners (18 neighbours; 8 in 2-D): the definition of the autoPET
    challenge (Gatidis et al. 2022, https://github.com/lab-midas/autoPET), whose false-positive volume has the
    prediction first and whose false-negative volume has the truth first.

    Args:
        first: Boolean mask, 2-D or 3-D, whose objects are counted.
        second: Boolean mask of the same shape.

    Returns:
        0 for an empty first mask, all of its voxels for an empty second one.
    """
    from scipy.ndimage import generate_binary_structure, label

    objects, count = label(first, generate_binary_structure(first.ndim, 2))
    sizes = np.bincount(objects.ravel(), minlength=count + 1)
    sizes[np.unique(objects[second])] = 0
    return int(sizes[1:].sum())


def lesion_recall(lesions: Lesions) -> float:
    """Share of the true objects that were found; NaN without any."""
    return sum(lesions.found) / len(lesions.found) if lesions.found else nan


def lesion_precision(lesions: Lesions) -> float:
    """Share of the predicted objects that match a true one; NaN without any."""
    predicted = sum(lesions.found) + lesions.extra
    return sum(lesions.found) / predicted if predicted else nan


def lesion_f1(lesions: Lesions) -> float:
    """2 tp / (2 tp + fp + fn) over objects; NaN without any on either side."""
    total = sum(lesions.found) + lesions.extra + len(lesions.found)
    return 2 * sum(lesions.found) / total if total else nan


def pool_lesions(cases: Sequence[Lesions]) -> Lesions:
    """Concatenate the objects of many cases."""
    return Lesions(
        tuple(size for case in cases for size in case.sizes),
        tuple(found for case in cases for found in case.found),
        sum(case.extra for case in cases),
    )


def recall_by_size(lesions: Lesions, bins: int = 4) -> list[SizeBin]:
    """Recall in quantile bins of the true sizes, smallest first; objects of one size share a bin.

    Returns:
        `bins` bins; fewer if there are fewer distinct sizes, none without an object.
    """
    sizes, found = np.asarray(lesions.sizes), np.asarray(lesions.found, dtype=bool)
    if not len(sizes):
        return []
    edges = np.unique(np.quantile(sizes, np.linspace(0, 1, bins + 1)[1:], method="inverted_cdf"))
    place = np.searchsorted(edges, sizes)
    return [_size_bin(sizes[place == index], found[place == index]) for index in range(len(edges))]


def _size_bin(sizes: np.ndarray, found: np.ndarray) -> SizeBin:
    return SizeBin(int(sizes.min()), int(sizes.max()), int(found.sum()), len(sizes))
