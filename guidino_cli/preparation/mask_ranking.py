"""Rank the masks of a data set, worst first: surely wrong ones, then by their agreement with the images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan

from guidino_cli.preparation.mask_audit import (
    MaskStatistics,
    Suspicion,
    are_empty_masks_usual,
    find_inverted_masks,
    find_suspicious_masks,
)

_OPPOSED, _WEAK = 0.5, 0.85
"""Agreements below which the reason says that the object lies elsewhere; 0.5 is chance."""


@dataclass(frozen=True)
class RankedMask:
    """A mask and what speaks against it.

    Attributes:
        case: Id of the case.
        agreement: AUROC in [0, 1] of held-out scores for its foreground, 0.5 at chance; NaN where it was not measured.
        region: Class with the lowest agreement.
        suspicions: Reasons from its statistics, worst first.
    """

    case: str
    agreement: float
    region: str
    suspicions: tuple[Suspicion, ...]

    @property
    def is_certain(self) -> bool:
        """Whether one of the reasons is certain."""
        return any(item.is_certain for item in self.suspicions)

    @property
    def reason(self) -> str:
        """All reasons in one line; "" if nothing speaks against the mask."""
        texts = [item.text for item in self.suspicions]
        is_inverted = any(item.kind == "inverted" for item in self.suspicions)
        if self.agreement < _WEAK and not is_inverted:
            where = "elsewhere" if self.agreement < _OPPOSED else "partly elsewhere"
            texts.append(f"judged by the other masks, {self.region} lies {where}")
        return "; ".join(texts)


def rank_masks(
    masks: Mapping[str, MaskStatistics],
    classes: Sequence[str],
    agreements: Mapping[str, tuple[float, str]],
) -> list[RankedMask]:
    """All masks, worst first.

    Masks that are certainly wrong come first, then the others from the lowest agreement to the highest, then those
    without one. Where empty masks are usual they come last.

    Args:
        masks: Case id -> statistics of each class.
        classes: Class names, the background first.
        agreements: Case id -> lowest agreement and its class; cases may be missing.
    """
    unknown = (float("nan"), classes[-1])
    suspicions: dict[str, list[Suspicion]] = {case: [] for case in masks}
    for item in [*find_suspicious_masks(masks, classes), *_opposed_masks(masks, agreements)]:
        if item.kind == "inverted":
            if any(other.kind == "inverted" for other in suspicions[item.case]):
                continue
            # A structure that reaches the border all round, and that the image confirms, is no inverted mask.
            item = replace(item, is_certain=not agreements.get(item.case, unknown)[0] >= 0.5)
        suspicions[item.case].append(item)
    ranked = [RankedMask(case, *agreements.get(case, unknown), tuple(found)) for case, found in suspicions.items()]
    empty = {case for case, regions in masks.items() if regions[0].area == 1} if are_empty_masks_usual(masks) else set()
    return sorted(ranked, key=lambda item: _order(item, is_last=item.case in empty))


def _opposed_masks(masks: Mapping[str, MaskStatistics], agreements: Mapping[str, tuple[float, str]]) -> list[Suspicion]:
    """Masks that the border alone does not prove inverted, but that border and image do together."""
    with_foreground = {case: regions for case, regions in masks.items() if 0 < regions[0].area < 1}
    return [
        item
        for item in find_inverted_masks(with_foreground, min_margin=1e-6)
        if agreements.get(item.case, (1.0, ""))[0] < 0.5
    ]


def _order(item: RankedMask, *, is_last: bool) -> tuple[int, float, str]:
    if item.is_certain:
        return 0, -max(reason.weight for reason in item.suspicions if reason.is_certain), item.case
    if is_last or isnan(item.agreement):
        weights = [reason.weight for reason in item.suspicions]
        return 3 if is_last else 2, -max(weights, default=0.0), item.case
    return 1, item.agreement, item.case
