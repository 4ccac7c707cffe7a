"""What the guide alone knows: its maps against the truth, an image at a time and over all images."""

from dataclasses import dataclass, field

import numpy as np

from guidino_cli.metrics.overlap import auroc, auroc_from_histograms, iou_from_histograms, level_histograms

THRESHOLD_STEPS = 1000
"""Thresholds may be any multiple of 1 / LEVELS."""
_FINE = 1 << 20
"""Levels of the AUROC over the pixels of all images: to keep every pixel would need memory that grows with them."""

_NOTHING = np.full(THRESHOLD_STEPS + 1, np.nan, dtype=np.float32)


@dataclass(frozen=True)
class MapScore:
    """One guide map of one image.

    Attributes:
        map: What the map is for: a class, or "foreground".
        low: Smallest value.
        mean: Mean value.
        high: Largest value.
        foreground: Share of the pixels that the truth marks; NaN without truth.
        auroc: Exact; NaN without truth, or where all pixels or none are foreground.
        iou: (LEVELS + 1,) float32 IoU of `map >= i / LEVELS` with the truth; NaN without truth or foreground.
    """

    map: str
    low: float
    mean: float
    high: float
    foreground: float = float("nan")
    auroc: float = float("nan")
    iou: np.ndarray = field(default_factory=lambda: _NOTHING)

    def iou_at(self, threshold: float) -> float:
        """IoU at a multiple of 1 / LEVELS."""
        return float(self.iou[round(threshold * THRESHOLD_STEPS)])


class MapScoreAccumulator:
    """Adds up one map over images, in memory that does not grow with them.

    Attributes:
        total: Images seen.
        used: Images with truth that has foreground and background, which alone have an AUROC.
        with_foreground: Images whose truth has foreground, which alone have an IoU.
        low: Smallest value of all.
        high: Largest value of all.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.total = 0
        self.used = 0
        self.with_foreground = 0
        self.low, self.high = float("inf"), float("-inf")
        self._iou_sum = np.zeros(THRESHOLD_STEPS + 1)
        self._fine = np.zeros((2, _FINE + 1), dtype=np.int64)

    def score(self, values: np.ndarray, truth: np.ndarray | None) -> MapScore:
        """Score the map (H, W) of one more image against its foreground (H, W)."""
        self.total += 1
        spread = (float(values.min()), float(values.mean()), float(values.max()))
        self.low, self.high = min(self.low, spread[0]), max(self.high, spread[2])
        if truth is None:
            return MapScore(self.name, *spread)
        fine = (values.astype(np.float64) * _FINE).round().astype(np.int64)
        self._fine += np.stack(level_histograms(fine, truth, levels=_FINE + 1))
        area, share = auroc(values, truth), float(truth.mean())
        self.used += not np.isnan(area)
        if not truth.any():
            return MapScore(self.name, *spread, share, area)
        iou = _iou(values, truth)
        self.with_foreground += 1
        self._iou_sum += iou
        return MapScore(self.name, *spread, share, area, iou.astype(np.float32))

    def mean_iou(self, threshold: float) -> float:
        """Mean over the images with foreground at a multiple of 1 / LEVELS; NaN if there are none."""
        if not self.with_foreground:
            return float("nan")
        return float(self._iou_sum[round(threshold * THRESHOLD_STEPS)] / self.with_foreground)

    @property
    def pooled_auroc(self) -> float:
        """AUROC over the pixels of all images with truth, those without foreground too; values rounded to 2^-20."""
        return auroc_from_histograms(*self._fine)


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
    # Half a millionth forgives rounding: a map that is 0.3 by paper and pencil is at or above 0.3.
    places = (
        np.floor(values.astype(np.float64) * THRESHOLD_STEPS + THRESHOLD_STEPS * 5e-7)
        .astype(np.int64)
        .clip(0, THRESHOLD_STEPS)
    )
    return iou_from_histograms(*level_histograms(places, truth, levels=THRESHOLD_STEPS + 1))
