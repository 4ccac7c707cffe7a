"""Data of guide and token figures: an image with its maps, and the style that all figures of a set share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from guidino_cli.plots.panels import UNIT_RANGE, Limits


@dataclass(frozen=True)
class GuideMap:
    """One guide map of an image.

    Attributes:
        name: What it marks, such as a class.
        values: (h, w) in [0, 1], on any grid that covers the image.
        target: (h, w) booleans, what the map should mark, or None without truth.
        auroc: AUROC of the map alone; NaN where it is undefined.
        iou: IoU at each threshold of the style.
        other: (h, w) the guide it is compared with, or None.
        other_auroc: AUROC of that guide.
    """

    name: str
    values: np.ndarray
    target: np.ndarray | None = None
    auroc: float = float("nan")
    iou: tuple[float, ...] = ()
    other: np.ndarray | None = None
    other_auroc: float = float("nan")


@dataclass(frozen=True)
class TokenView:
    """Backbone tokens of an image; their grid covers the image exactly.

    Attributes:
        components: (h, w, 3) in [0, 1]: the first, second and third principal component as red, green and blue.
        similarity: (h, w) cosines in [-1, 1].
        patch: Row and column of the token that the others are compared with.
        explained: Fraction of the tokens' variance within the three components.
        title: Tells several sets of tokens apart, such as "with LoRA"; empty for a single one.
    """

    components: np.ndarray
    similarity: np.ndarray
    patch: tuple[int, int]
    explained: float
    title: str = ""


@dataclass(frozen=True)
class GuideView:
    """One image with its guide. Maps and labels may have any grid that covers the image.

    Attributes:
        name: Title, such as the file name.
        size_hw: Image size in pixels.
        image: (h, w, 3) uint8.
        labels: (h, w) predicted class indices.
        maps: At least one.
        truth: (h, w) true class indices, or None.
        dice: Dice of the prediction.
        gate_iou: IoU of the largest map at 0.5 with everything that is not background; NaN without foreground.
        tokens: Tokens of the backbone, drawn below.
    """

    name: str
    size_hw: tuple[int, int]
    image: np.ndarray
    labels: np.ndarray
    maps: Sequence[GuideMap]
    truth: np.ndarray | None = None
    dice: float | None = None
    gate_iou: float = float("nan")
    tokens: Sequence[TokenView] = field(default_factory=tuple)


@dataclass(frozen=True)
class GuideStyle:
    """Settings that all figures of a set share.

    Attributes:
        classes: Class names, the background first.
        limits: Range of the colormap; None for the range of each image.
        limits_note: What the limits apply to, for the label of the colorbar.
        thresholds: Thresholds of the contours and of the IoU.
        source: Where the guide is from, such as the name of the run.
        spacing_mm: Width of a pixel, if known.
        titles: Titles of the guide and of the one it is compared with; the second is empty without one.
        max_difference: Largest absolute difference of the two guides in the set.
    """

    classes: Sequence[str]
    limits: Limits | None = UNIT_RANGE
    limits_note: str = ""
    thresholds: Sequence[float] = (0.5,)
    source: str = ""
    spacing_mm: float | None = None
    titles: tuple[str, str] = ("guide", "")
    max_difference: float = 1.0

    def limits_of(self, view: GuideView) -> Limits:
        """Range of the colormap in the figure of one image."""
        return value_limits([item.values for item in view.maps]) if self.limits is None else self.limits


def value_limits(maps: Sequence[np.ndarray]) -> Limits:
    """Smallest and largest value of some maps; 0.005 to both sides of a constant one."""
    low, high = min(float(item.min()) for item in maps), max(float(item.max()) for item in maps)
    return (low, high) if high - low > 1e-6 else (low - 0.005, high + 0.005)


def select_evenly(thresholds: Sequence[float], count: int) -> list[float]:
    """At most `count` thresholds, about evenly spaced, with 0.5 if it is among them."""
    if len(thresholds) <= count:
        return list(thresholds)
    middle = min(range(len(thresholds)), key=lambda index: abs(thresholds[index] - 0.5))
    step = -(-len(thresholds) // count)
    return [thresholds[index] for index in range(middle % step, len(thresholds), step)]
