"""Find masks that differ from the others of a data set: empty, full or inverted ones, outliers, stray classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from guidino_cli.data.masks.statistics import RegionStatistics
from guidino_cli.progress import pluralize

MaskStatistics = tuple[RegionStatistics, ...]

MAX_Z = 3.5
"""Robust z-scores beyond it are outliers, after Iglewicz and Hoaglin (1993)."""
_AREA_FLOOR, _PARTS_FLOOR = 0.25, 0.5
"""Smallest spread of the logarithms, so that masks that are all alike make no outlier of one half as large again."""
_MIN_BORDER_GAP = 0.5
_MAX_EMPTY_SHARE = 0.1
"""With more empty masks the data set has images without the object, and an empty mask is nothing special."""
_MIN_CASES = 5

Kind = Literal["empty", "full", "inverted", "area", "border", "parts", "class"]
_LABELS: dict[Kind, str] = {
    "empty": "empty",
    "full": "no background",
    "inverted": "inverted?",
    "area": "unusual area",
    "border": "unusual contact with the border",
    "parts": "unusual number of parts",
    "class": "stray value?",
}


@dataclass(frozen=True)
class Suspicion:
    """A reason to look at a mask.

    Attributes:
        case: Id of the case.
        kind: Kind of the reason.
        text: The reason with its number.
        weight: Order among suspicions of one data set; larger is worse.
        is_certain: Whether the mask is surely not like the others, and not only an outlier.
    """

    case: str
    kind: Kind
    text: str
    weight: float
    is_certain: bool = False

    @property
    def label(self) -> str:
        """The kind in words."""
        return _LABELS[self.kind]


def find_suspicious_masks(masks: Mapping[str, MaskStatistics], classes: Sequence[str]) -> list[Suspicion]:
    """Suspicions about the masks of a data set, worst first; none with fewer than five masks.

    Args:
        masks: Case id -> statistics of each class.
        classes: Class names, the background first.
    """
    if len(masks) < _MIN_CASES:
        return []
    found = _find_blank_masks(masks)
    blank = {item.case for item in found}
    rest = {case: regions for case, regions in masks.items() if case not in blank and _foreground_area(regions) > 0}
    found += find_inverted_masks(rest)
    found += find_rare_classes(masks, classes)
    inverted = {item.case for item in found if item.kind == "inverted"}
    for index in range(1, len(classes)):
        own = {case: regions[index] for case, regions in rest.items() if regions[index].pixels and case not in inverted}
        found += _find_outliers(own, classes[index])
    return sorted(found, key=lambda item: (not item.is_certain, -item.weight, item.case))


def are_empty_masks_usual(masks: Mapping[str, MaskStatistics]) -> bool:
    """Whether so many masks are empty that the data set seems to have images without the object."""
    return sum(_foreground_area(regions) == 0 for regions in masks.values()) > _MAX_EMPTY_SHARE * len(masks)


def find_inverted_masks(masks: Mapping[str, MaskStatistics], *, min_margin: float = _MIN_BORDER_GAP) -> list[Suspicion]:
    """Masks whose complement fits the others better: nearer to the median share of border pixels in the foreground.

    Args:
        masks: Case id -> statistics of each class.
        min_margin: How much nearer, in [0, 1].
    """
    if not masks:
        return []
    contact = {case: 1 - regions[0].border for case, regions in masks.items()}
    usual = float(np.median(list(contact.values())))
    found = []
    for case, own in contact.items():
        margin = abs(own - usual) - abs(1 - own - usual)
        if margin >= min_margin:
            text = f"inverted? The foreground covers {_percent(own)} of the image's border, usually {_percent(usual)}"
            found.append(Suspicion(case, "inverted", text, 100 * margin, is_certain=True))
    return found


def find_rare_classes(masks: Mapping[str, MaskStatistics], classes: Sequence[str]) -> list[Suspicion]:
    """Cases with a class that hardly any mask has: a stray value rather than a class, perhaps.

    It occurs in one mask or in 2 % of them, where there are eight or more or lower classes do not occur at all; or it
    covers less than a ten-thousandth of the foreground in all.
    """
    pixels = np.array([[region.pixels for region in regions] for regions in masks.values()])
    cases, total = list(masks), pixels[:, 1:].sum()
    files = (pixels > 0).sum(axis=0)
    if len(classes) < 3 or len(cases) < 3:
        return []
    found = []
    for index in range(1, len(classes)):
        absent = [classes[lower] for lower in range(1, index) if not files[lower]]
        is_rare = files[index] <= max(1, len(cases) // 50) and (len(cases) >= 8 or bool(absent))
        is_tiny = pixels[:, index].sum() < 1e-4 * total
        if not files[index] or not (is_rare or is_tiny):
            continue
        for row in np.flatnonzero(pixels[:, index]):
            text = f"stray value? {classes[index]} occurs in {files[index]} of {len(cases)} masks"
            text += f", here in {pixels[row, index]:,} pixels"
            found.append(Suspicion(cases[row], "class", text, 50 / files[index], is_certain=bool(absent)))
    return found


def _find_blank_masks(masks: Mapping[str, MaskStatistics]) -> list[Suspicion]:
    """Masks without foreground, unless there are many, and masks without background."""
    found = []
    empty = [case for case, regions in masks.items() if _foreground_area(regions) == 0]
    if not are_empty_masks_usual(masks):
        text = f"empty: no foreground, in {len(empty)} of {len(masks)} masks"
        found += [Suspicion(case, "empty", text, 200, is_certain=True) for case in empty]
    full = [case for case, regions in masks.items() if regions[0].pixels == 0]
    if len(full) <= _MAX_EMPTY_SHARE * len(masks):
        text = f"full: no background, in {len(full)} of {len(masks)} masks"
        found += [Suspicion(case, "full", text, 150, is_certain=True) for case in full]
    return found


def _find_outliers(regions: Mapping[str, RegionStatistics], name: str) -> list[Suspicion]:
    """Outliers of one class, among the masks that have it, by area, border contact and number of parts."""
    if len(regions) < _MIN_CASES:
        return []
    cases, found = list(regions), []
    areas, parts = (np.array([getattr(item, key) for item in regions.values()]) for key in ("area", "parts"))
    borders = np.array([item.border for item in regions.values()])
    usual = float(np.median(areas)), float(np.median(borders)), float(np.median(parts))
    for case, z, area in zip(cases, _robust_z(np.log(areas), _AREA_FLOOR), areas, strict=True):
        if abs(z) > MAX_Z:
            size = "large" if z > 0 else "small"
            text = f"{size}: {name} covers {_percent(area)}, usually {_percent(usual[0])} (z {z:+.1f})"
            found.append(Suspicion(case, "area", text, abs(z)))
    spread = max(MAX_Z * _mad(borders), _MIN_BORDER_GAP)
    for case, border in zip(cases, borders, strict=True):
        if abs(border - usual[1]) > spread:
            text = f"{name} covers {_percent(border)} of the image's border, usually {_percent(usual[1])}"
            found.append(Suspicion(case, "border", text, MAX_Z * abs(border - usual[1]) / spread))
    for case, z, count in zip(cases, _robust_z(np.log(parts), _PARTS_FLOOR), parts, strict=True):
        if abs(z) > MAX_Z:
            text = f"{name} in {pluralize(int(count), 'part')}, usually {usual[2]:g} (z {z:+.1f})"
            found.append(Suspicion(case, "parts", text, abs(z)))
    return found


def _robust_z(values: np.ndarray, floor: float) -> np.ndarray:
    """Distance from the median in robust standard deviations of at least `floor`."""
    return np.asarray((values - np.median(values)) / max(_mad(values), floor))


def _mad(values: np.ndarray) -> float:
    """Median absolute deviation, scaled to the standard deviation of a normal distribution."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _foreground_area(regions: MaskStatistics) -> float:
    return 1 - regions[0].area if regions[0].pixels else 1.0
