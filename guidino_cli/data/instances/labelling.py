"""Instances from affinities by a named method, at one threshold or along a curve of them."""

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np

from guidino_cli.data.instances.agglomeration import label_by_waterz, require_waterz
from guidino_cli.data.instances.watershed import label_by_watershed

Method = Literal["watershed", "waterz"]
METHODS: tuple[str, ...] = get_args(Method)


def require_method(method: Method) -> None:
    """`DependencyError` if the package of a method is not installed."""
    if method == "waterz":
        require_waterz()


def label_instances(
    affinities: np.ndarray, thresholds: Sequence[float], *, method: Method, spacing: Sequence[float], min_size: int = 0
) -> Iterator[np.ndarray]:
    """Instances at several thresholds.

    Args:
        affinities: (2, Y, X) or (3, Z, Y, X) in [0, 1], see `affinities_of_labels`.
        thresholds: Affinities in (0, 1) above which neighbouring regions are merged.
        method: "watershed" (scikit-image, mean affinity) or "waterz" (median affinity).
        spacing: Size of a pixel along the axes, in any unit.
        min_size: Instances of fewer pixels become background.

    Yields:
        For each threshold, in its order, instance numbers uint32 from 1 without gaps, 0 is the background.

    Raises:
        DependencyError: waterz is not installed.
    """
    if method == "waterz":
        found = label_by_waterz(affinities, thresholds)
    else:
        found = label_by_watershed(affinities, thresholds, spacing=spacing)
    for labels in found:
        yield _renumber(labels, min_size)


def _renumber(labels: np.ndarray, min_size: int) -> np.ndarray:
    numbers, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    kept = (numbers > 0) & (counts >= min_size)
    table = np.where(kept, np.cumsum(kept), 0).astype(np.uint32)
    return np.asarray(table[place].reshape(labels.shape))
