"""Instances from affinities by waterz: its watershed, then merging by the median affinity of the common faces."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np

from guidino_cli.errors import DependencyError

SCORING = "OneMinus<HistogramQuantileAffinity<RegionGraphType, 50, ScoreValue, 256>>"
"""One minus the median affinity (Funke et al. 2018); waterz ships it compiled, so that no compiler is needed."""


def require_waterz() -> None:
    """`DependencyError` without waterz."""
    if find_spec("waterz") is None:
        raise DependencyError(
            "predict.instances=waterz needs waterz: pip install 'guidino[em]', or take predict.instances=watershed"
        )


def label_by_waterz(affinities: np.ndarray, thresholds: Sequence[float]) -> Iterator[np.ndarray]:
    """Instances at several thresholds, in rising order of agglomeration.

    Args:
        affinities: (2, Y, X) or (3, Z, Y, X) in [0, 1], see `affinities_of_labels`.
        thresholds: Regions are merged while the median affinity of their common faces is above it.

    Yields:
        For each threshold, in its order, instance numbers uint32, 0 is the background.

    Raises:
        DependencyError: waterz is not installed.
    """
    require_waterz()
    import waterz

    is_image = len(affinities) == 2
    if is_image:
        affinities = np.concatenate((np.zeros_like(affinities[:1]), affinities))[:, None]
    values = np.ascontiguousarray(affinities, dtype=np.float32)
    scores = [1 - threshold for threshold in thresholds]
    found: dict[float, np.ndarray] = {}
    with _quiet_stdout():
        results: Any = waterz.agglomerate(values, sorted(scores), scoring_function=SCORING)
        for score, labels in zip(sorted(scores), results, strict=True):
            # Every item is the same buffer.
            found[score] = np.array(labels[0] if is_image else labels, dtype=np.uint32)
    for score in scores:
        yield found[score]


@contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Discard what C++ prints to the standard output, which may be somebody's JSON."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
