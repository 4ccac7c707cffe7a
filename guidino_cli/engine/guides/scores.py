"""Scores of guide maps against the truth: AUROC, and IoU at all thresholds, per image and over all images."""

from dataclasses import dataclass, field

import numpy as np

from guidino_cli.metrics.overlap import auroc, auroc_from_histograms, iou_from_histograms, level_histograms

THRESHOLD_STEPS = 1000
"""Thresholds are multiples of 1 / THRESHOLD_STEPS."""
_POOLED_LEVELS = 1 << 20
"""Levels of the AUROC pooled over images; a histogram needs constant memory."""

_NO_IOU = np.full(THRESHOLD_STEPS + 1, np.nan, dtype=np.float32)


@dataclass(frozen=True)
class MapScore:
    """Scores of one guide map of one image.

    Attributes:
        map: Name of the map: a class, or "foreground".
        low: Smallest value.
        mean: Mean value.
        high: Largest value.
        foreground: Fraction of foreground pixels in the truth; NaN without truth.
        auroc: Exact AUROC; NaN without truth, or where all pixels or none are foreground.
        iou: (THRESHOLD_STEPS + 1,) float32 IoU of `map >= i / THRESHOLD_STEPS` with the truth;
            NaN without truth or foreground.
    """

    map: str
    low: float
    mean: float
    high: float
    foreground: float = float("nan")
    auroc: float = float("nan")
    iou: np.ndarray = field(default_factory=lambda: _NO_IOU)

    def iou_at(self, threshold: float) -> float:
        """IoU at a multiple of 1 / THRESHOLD_STEPS."""
        return float(self.iou[round(threshold * THRESHOLD_STEPS)])


class MapScoreAccumulator:
    """Accumulates the scores of one map over images, in constant memory.

    Attributes:
        total: Number of images.
        used: Number of images whose truth has foreground and background; only these have an AUROC.
        with_foreground: Number of images whose truth has foreground; only these have an IoU.
        low: Smallest value of the map in any image.
        high: Largest value of the map in any image.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.total = 0
        self.used = 0
        self.with_foreground = 0
        self.low, self.high = float("inf"), float("-inf")
        self._iou_sum = np.zeros(THRESHOLD_STEPS + 1)
        self._pooled = np.zeros((2, _POOLED_LEVELS + 1), dtype=np.int64)

    def score(self, values: np.ndarray, truth: np.ndarray | None) -> MapScore:
        """Score and accumulate the map (H, W) of an image against its boolean foreground (H, W)."""
        self.total += 1
        statistics = (float(values.min()), float(values.mean()), float(values.max()))
        self.low, self.high = min(self.low, statistics[0]), max(self.high, statistics[2])
        if truth is None:
            return MapScore(self.name, *statistics)
        self._pooled += np.stack(level_histograms(_rank(values), truth, levels=_POOLED_LEVELS + 1))
        area, share = auroc(values, truth), float(truth.mean())
        self.used += not np.isnan(area)
        if not truth.any():
            return MapScore(self.name, *statistics, share, area)
        iou = _iou(values, truth)
        self.with_foreground += 1
        self._iou_sum += iou
        return MapScore(self.name, *statistics, share, area, iou.astype(np.float32))

    def score_volume(self, values: np.ndarray, truth: np.ndarray | None) -> MapScore:
        """Score and accumulate the map (Z, Y, X) of a volume against its boolean foreground, part by part.

        A volume has too many voxels to be sorted: AUROC is that of values rounded to 2^-20.
        """
        self.total += 1
        statistics = (float(values.min()), float(values.mean(dtype=np.float64)), float(values.max()))
        self.low, self.high = min(self.low, statistics[0]), max(self.high, statistics[2])
        if truth is None:
            return MapScore(self.name, *statistics)
        ranks, places = np.zeros_like(self._pooled), np.zeros((2, THRESHOLD_STEPS + 1), dtype=np.int64)
        # A histogram has a million levels, so that of fewer voxels would take longer than their count.
        step = max(1, _POOLED_LEVELS // values[0].size)
        for start in range(0, len(values), step):
            part, target = values[start : start + step], truth[start : start + step]
            ranks += np.stack(level_histograms(_rank(part), target, levels=_POOLED_LEVELS + 1))
            places += np.stack(level_histograms(_place(part), target, levels=THRESHOLD_STEPS + 1))
        self._pooled += ranks
        area, share = auroc_from_histograms(*ranks), float(truth.mean())
        self.used += not np.isnan(area)
        if not truth.any():
            return MapScore(self.name, *statistics, share, area)
        iou = iou_from_histograms(*places)
        self.with_foreground += 1
        self._iou_sum += iou
        return MapScore(self.name, *statistics, share, area, iou.astype(np.float32))

    def mean_iou(self, threshold: float) -> float:
        """Mean over the images with foreground at a multiple of 1 / THRESHOLD_STEPS; NaN if there are none."""
        if not self.with_foreground:
            return float("nan")
        return float(self._iou_sum[round(threshold * THRESHOLD_STEPS)] / self.with_foreground)

    @property
    def pooled_auroc(self) -> float:
        """AUROC over the pixels of all images with truth, those without foreground too; values rounded to 2^-20."""
        return auroc_from_histograms(*self._pooled)


def choose_thresholds(low: float, high: float, *, at_most: int = 9) -> list[float]:
    """Round thresholds that lie within a range of values, about equally spaced, and always 0.5."""
    for step in (1, 2, 5, 10, 20, 50, 100, 200, 500):
        first, last = (
            int(np.ceil(round(low * THRESHOLD_STEPS, 6) / step)),
            int(np.floor(round(high * THRESHOLD_STEPS, 6) / step)),
        )
        if last - first + 1 <= at_most:
            break
    return sorted({number * step / THRESHOLD_STEPS for number in range(first, last + 1)} | {0.5})


def _iou(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return iou_from_histograms(*level_histograms(_place(values), truth, levels=THRESHOLD_STEPS + 1))


def _rank(values: np.ndarray) -> np.ndarray:
    """Level of each value among `_POOLED_LEVELS`."""
    return np.asarray((values.astype(np.float64) * _POOLED_LEVELS).round().astype(np.int64))


def _place(values: np.ndarray) -> np.ndarray:
    """Number of the largest threshold that each value reaches."""
    # Half a millionth forgives rounding: a map that is 0.3 by paper and pencil is at or above 0.3.
    return (
        np.floor(values.astype(np.float64) * THRESHOLD_STEPS + THRESHOLD_STEPS * 5e-7)
        .astype(np.int64)
        .clip(0, THRESHOLD_STEPS)
    )
