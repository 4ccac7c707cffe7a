"""Results of `predict` in addition to the mask of a case: scores without true masks, outer and inner masks."""

from collections.abc import Sequence

import numpy as np

from guidino_cli.commands.prediction.review import quality_record
from guidino_cli.commands.prediction.risk import RiskRegions
from guidino_cli.engine.prediction.accumulation import CasePart
from guidino_cli.engine.prediction.quality import QualitySums
from guidino_cli.engine.risk.regions import RegionMasks


class CaseMeasurement:
    """Measures a case part by part.

    Args:
        name: Name of the case, which may decide on the thresholds.
        classes: Number of classes, the background included.
        risk: Which outer and inner masks are cut; None for none.
        size: (H, W) of an image, or (D, H, W) of a volume in the network's order.
    """

    def __init__(self, name: str, classes: int, risk: RiskRegions | None, size: Sequence[int]) -> None:
        self._sums = QualitySums(classes)
        self._regions = None if risk is None else RegionMasks(risk.thresholds(name), size)

    def add(self, part: CasePart) -> None:
        """Add a part."""
        self._sums.add(part)
        if self._regions is not None:
            self._regions.add(part)

    @property
    def regions(self) -> list[np.ndarray]:
        """The outer and inner masks in their order, 0 and 1, uint8 of the size of the case."""
        return [] if self._regions is None else list(self._regions.masks)

    def record(self, *, has_foreground: bool) -> dict[str, float]:
        """The scores; those of an empty mask if post-processing emptied it."""
        quality = self._sums.result()
        return quality_record(quality if has_foreground else quality.emptied())
