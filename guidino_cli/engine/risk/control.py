"""Conformal risk control: thresholds of masks whose mean loss on new cases is bounded.

Angelopoulos, Bates, Fisch, Lei, Schuster: Conformal Risk Control, ICLR 2024 (arXiv 2208.02814), theorem 1: of n
exchangeable cases with losses L_i(t) in [0, 1] that do not increase as the region grows, take the smallest region with
(L_1 + ... + L_n + 1) / (n + 1) <= risk. The expected loss of the next case, over calibration cases and that case, is
then at most the risk. It is a bound of a mean: a given set of calibration cases may do worse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from guidino_cli.engine.risk.regions import THRESHOLDS, RegionCurves, Side
from guidino_cli.errors import DataError

Loss = Literal["fnr", "fdr", "fpr"]
LOSSES: dict[Loss, tuple[Side, str]] = {
    "fnr": ("outer", "share of the true region outside of the outer mask"),
    "fdr": ("inner", "share of the inner mask outside of the true region"),
    "fpr": ("inner", "share of the true background inside of the inner mask"),
}
"""Losses: the region that each bounds, and its meaning."""


@dataclass(frozen=True)
class RegionBound:
    """The threshold of the outer or inner region of a class, and what it did to the calibration cases.

    Attributes:
        loss: What is bounded.
        risk: The bound of its mean.
        threshold: Threshold of the class's probability; see `cut_region`.
        cases: Number of calibration cases with the class in truth.
        loss_of_mask: Mean loss of the mask as it is.
        loss_of_region: Mean loss of the region; optimistic, because it chose the threshold.
        area_median: Median over the cases of the region's area, in areas of the true region.
        area_pooled: Area of all regions, in areas of all true regions.
        image_share: Mean share of the image that the region takes.
    """

    loss: Loss
    risk: float
    threshold: float
    cases: int
    loss_of_mask: float
    loss_of_region: float
    area_median: float
    area_pooled: float
    image_share: float

    @property
    def side(self) -> Side:
        """The region that is bounded."""
        return LOSSES[self.loss][0]


def cases_needed(risk: float) -> int:
    """Smallest number of calibration cases with which a level can be held: 1 / risk - 1."""
    return max(1, ceil(1 / risk - 1 - 1e-9))


def losses_by_threshold(curves: RegionCurves, loss: Loss) -> np.ndarray:
    """Loss of a case with the class at each of `THRESHOLDS`, in [0, 1]; an empty region has "fdr" 0.

    As the threshold rises, "fnr" does not fall and "fpr" does not rise; "fdr" may do both, see `make_monotone`.

    Raises:
        ValueError: The truth lacks the class.
    """
    if not curves.true:
        raise ValueError("a case without the class has no loss")
    region, common = curves.areas(LOSSES[loss][0])
    if loss == "fnr":
        return 1 - common / curves.true
    wrong = region - common
    if loss == "fpr":
        background = int(curves.counts.sum()) - curves.true
        return wrong / background if background else np.zeros(len(wrong))
    return np.divide(wrong, region, out=np.zeros(len(wrong)), where=region > 0)


def make_monotone(losses: np.ndarray, side: Side) -> np.ndarray:
    """Losses (..., T) made monotone in the threshold: the largest one of this and all smaller regions.

    The paper's way with losses that are not monotone; the bound then holds for them, and hence for the losses
    themselves. Losses of outer regions grow as the regions shrink and are returned as they are.
    """
    if side == "outer":
        return losses
    return np.asarray(np.maximum.accumulate(losses[..., ::-1], axis=-1)[..., ::-1])


def choose_threshold(losses: np.ndarray, *, risk: float, side: Side) -> int | None:
    """Place of the threshold of the smallest outer or the largest inner region that holds a level.

    Args:
        losses: (n, T) of each case at each of T rising thresholds, monotone.
        risk: Bound of the mean loss, in (0, 1).
        side: "outer" takes the highest threshold that holds, "inner" the lowest.

    Returns:
        None if none holds.
    """
    bounds = (losses.sum(axis=0) + 1) / (len(losses) + 1)
    # Rounding of sums must not refuse a level that is met exactly.
    held = np.flatnonzero(bounds <= risk + 1e-12)
    if not held.size:
        return None
    return int(held[-1] if side == "outer" else held[0])


def control_risk(cases: Sequence[RegionCurves], *, loss: Loss, risk: float, what: str) -> RegionBound:
    """Choose the threshold of a class.

    Args:
        cases: Calibration cases; those without the class in truth are left out.
        loss: What is bounded.
        risk: Bound of its mean, in (0, 1).
        what: The class and where it was counted, for messages.

    Raises:
        DataError: Too few cases for the level; or only the whole image, or no inner mask at all, holds it.
    """
    side = LOSSES[loss][0]
    used = [item for item in cases if item.true]
    needed = cases_needed(risk)
    if len(used) < needed:
        raise DataError(
            f"--risk {risk:g}: {what} is in {len(used)} validation cases, a level of {risk:g} needs {needed} "
            f"(1/risk - 1); give more with --data, or a level of {lowest_level(len(used))} or more"
        )
    losses = np.stack([losses_by_threshold(item, loss) for item in used])
    place = choose_threshold(make_monotone(losses, side), risk=risk, side=side)
    regions = [item.areas(side)[0] for item in used]
    if place is None or (side == "outer" and place == 0) or not any(region[place] for region in regions):
        only = (
            "only the whole image as outer mask holds it"
            if side == "outer"
            else "no inner mask holds it but an empty one"
        )
        raise DataError(
            f"--risk {risk:g} --of {loss}: cannot be held for {what}: {only} (mean {loss} of the masks themselves "
            f"{_of_mask(losses, side):.3f}, {len(used)} cases); give a larger --risk"
        )
    areas = np.array([region[place] for region in regions], dtype=float)
    true = np.array([item.true for item in used], dtype=float)
    sizes = np.array([item.counts.sum() for item in used], dtype=float)
    return RegionBound(
        loss,
        risk,
        float(THRESHOLDS[place]),
        len(used),
        _of_mask(losses, side),
        float(losses[:, place].mean()),
        float(np.median(areas / true)),
        float(areas.sum() / true.sum()),
        float((areas / sizes).mean()),
    )


def lowest_level(cases: int) -> str:
    """The smallest level, rounded up to three decimals, that a number of cases can hold."""
    return f"{ceil(1000 / (cases + 1) - 1e-9) / 1000:g}"


def _of_mask(losses: np.ndarray, side: Side) -> float:
    """Mean loss of the masks as they are: the outer region at threshold 1, the inner one at 0."""
    return float(losses[:, -1 if side == "outer" else 0].mean())
