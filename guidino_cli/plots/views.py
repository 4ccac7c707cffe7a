"""What the pictures of guides are made of: an image with its maps, and what all figures of a set share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from guidino_cli.plots.panels import UNIT_RANGE, Limits


@dataclass(frozen=True)
class GuideMap:
    """One guide map of an image.

    Attributes:
        name: What it is for, such as a class.
        values: (h, w) in [0, 1], on any grid that covers the image.
        target: (h, w) booleans, what the map should mark, or None without truth.
        auroc: Of the map alone; NaN where there is nothing to rank.
        iou: One for each threshold of the figure.
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
    """What a backbone says about an image; its grid covers the image exactly.

    Attributes:
        components: (h, w, 3) in [0, 1]: the first, second and third principal component as red, green and blue.
        similarity: (h, w) cosines in [-1, 1].
        patch: Row and column of the token that the others are compared with.
        explained: Share of the tokens' variance within the three components.
        title: Which tokens, where there are several kinds, such as "before LoRA".
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
        name: Heading, such as the name of the file.
        size_hw: Of the image, in pixels.
        image: (h, w, 3) uint8.
        labels: (h, w) predicted class indices.
        maps: At least one.
        truth: (h, w) true class indices, or None.
        dice: Of the prediction.
        gate_iou: IoU of the largest map at 0.5 with everything that is not background; NaN without foreground.
        tokens: Drawn below.
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
    """What is the same in all figures of a set.

    Attributes:
        classes: Class names, the background first.
        limits: Values of the first and the last colour; None takes those of each image.
        shared_by: What the limits hold for, said under the colour bar.
        thresholds: At which the guide is compared with the truth.
        source: What the guide is from, such as the name of the run.
        spacing_mm: Width of a pixel, if known.
        titles: Of the guide and the one before it; the second is empty where nothing is compared.
        difference: Largest difference of two guides in the set.
    """

    classes: Sequence[str]
    limits: Limits | None = UNIT_RANGE
    shared_by: str = ""
    thresholds: Sequence[float] = (0.5,)
    source: str = ""
    spacing_mm: float | None = None
    titles: tuple[str, str] = ("guide", "")
    difference: float = 1.0

    def limits_of(self, view: GuideView) -> Limits:
        """Values of the first and the last colour in the figure of one image."""
        return value_limits([item.values for item in view.maps]) if self.limits is None else self.limits


def value_limits(maps: Sequence[np.ndarray]) -> Limits:
    """The range of some maps; a constant map gets a hundredth around it."""
    low, high = min(float(item.min()) for item in maps), max(float(item.max()) for item in maps)
    return (low, high) if high - low > 1e-6 else (low - 0.005, high + 0.005)


def select_evenly(thresholds: Sequence[float], count: int) -> list[float]:
    """At most so many thresholds, about evenly spread, 0.5 among them if it is one of them."""
    if len(thresholds) <= count:
        return list(thresholds)
    middle = min(range(len(thresholds)), key=lambda place: abs(thresholds[place] - 0.5))
    step = -(-len(thresholds) // count)
    return [thresholds[place] for place in range(middle % step, len(thresholds), step)]
