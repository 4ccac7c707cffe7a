"""Fingerprint of a data set for nnU-Net's planning rules: sizes, intensities, classes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from guidino_cli.data.cases import IGNORED, read_pair
from guidino_cli.errors import DataError
from guidino_cli.types import Case


@dataclass(frozen=True)
class ClassStatistics:
    """Statistics of one foreground class.

    Attributes:
        name: Name of the class.
        cases: Number of training cases that contain it.
        share: Median share of its pixels in those cases, in [0, 1]; 0 if it never occurs.
        smallest: Smallest of those shares.
    """

    name: str
    cases: int
    share: float
    smallest: float


@dataclass(frozen=True)
class DatasetFingerprint:
    """Statistics of the training cases of a data set.

    Attributes:
        cases: Number of cases.
        median_hw: Median height and median width in pixels; halves occur with an even number of cases.
        smallest_hw: Smallest height and smallest width.
        largest_hw: Largest height and largest width.
        mean: Mean of the foreground pixels, 0 to 255, per colour channel.
        deviation: Their standard deviation.
        percentiles: Their 0.5 and 99.5 percentiles.
        is_grey: Whether the three colour channels are equal everywhere.
        classes: Statistics of every foreground class.
    """

    cases: int
    median_hw: tuple[float, float]
    smallest_hw: tuple[int, int]
    largest_hw: tuple[int, int]
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    percentiles: tuple[tuple[float, float, float], tuple[float, float, float]]
    is_grey: bool
    classes: tuple[ClassStatistics, ...]


def extract_fingerprint(
    cases: Sequence[Case], classes: Sequence[str], *, done: Callable[[], None] = lambda: None
) -> DatasetFingerprint:
    """Compute the fingerprint, reading every image and mask once.

    Args:
        cases: Labelled training cases.
        classes: Class names; index 0 is the background.
        done: Called after every case.

    Raises:
        DataError: No case, none with a mask, or a file that cannot be used.
    """
    labelled = [case for case in cases if case.mask is not None]
    if not labelled:
        raise DataError("no labelled training case; see the splits in cases.json, made by `guidino prepare`")
    # A histogram per colour channel gives exact statistics of all foreground pixels.
    bins = np.zeros((3, 256), dtype=np.int64)
    shares: list[list[float]] = [[] for _ in classes]
    is_grey = True
    for case in labelled:
        pixels, labels = read_pair(case, num_classes=len(classes))
        labels = np.where(labels == IGNORED, 0, labels)
        is_grey = is_grey and bool((pixels == pixels[..., :1]).all())
        for colour in range(3):
            bins[colour] += np.bincount(pixels[..., colour][labels > 0], minlength=256)
        counts = np.bincount(labels.ravel(), minlength=len(classes))
        for index in np.flatnonzero(counts):
            shares[index].append(counts[index] / labels.size)
        done()
    sizes = np.array([case.size_hw for case in labelled])
    mean, deviation = _mean_and_std(bins)
    return DatasetFingerprint(
        cases=len(labelled),
        median_hw=(float(np.median(sizes[:, 0])), float(np.median(sizes[:, 1]))),
        smallest_hw=_as_size(sizes.min(axis=0)),
        largest_hw=_as_size(sizes.max(axis=0)),
        mean=mean,
        deviation=deviation,
        percentiles=(_percentile(bins, 0.005), _percentile(bins, 0.995)),
        is_grey=is_grey,
        classes=tuple(_class_statistics(name, shares[index]) for index, name in enumerate(classes) if index > 0),
    )


def _as_size(values: np.ndarray) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _mean_and_std(bins: np.ndarray) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    count = np.maximum(1, bins.sum(axis=1))
    levels = np.arange(256)
    mean = bins @ levels / count
    variance = np.maximum(0, bins @ levels**2 / count - mean**2)
    return _as_rgb(mean), _as_rgb(np.sqrt(variance))


def _percentile(bins: np.ndarray, share: float) -> tuple[float, float, float]:
    """The smallest level with at least that share of pixels at or below it."""
    reached = bins.cumsum(axis=1) >= share * bins.sum(axis=1, keepdims=True)
    return _as_rgb(reached.argmax(axis=1))


def _as_rgb(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _class_statistics(name: str, shares: Sequence[float]) -> ClassStatistics:
    return ClassStatistics(name, len(shares), float(np.median(shares)) if shares else 0.0, min(shares, default=0.0))
