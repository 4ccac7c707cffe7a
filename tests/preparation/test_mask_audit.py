"""Masks that differ from the others of their data set, and those that do not."""

import numpy as np

from guidino_cli.data.masks.statistics import region_statistics
from guidino_cli.preparation.mask_audit import MaskStatistics, Suspicion, find_suspicious_masks

BINARY = ["background", "polyp"]


def disc(radius: float, *, side: int = 64, value: int = 1) -> np.ndarray:
    """A disc in the middle of a square."""
    rows, columns = np.indices((side, side)) - (side - 1) / 2
    return np.where(np.hypot(rows, columns) < radius, value, 0)


def audit(masks: dict[str, np.ndarray], classes: list[str]) -> list[Suspicion]:
    statistics: dict[str, MaskStatistics] = {
        case: region_statistics(mask, len(classes)) for case, mask in masks.items()
    }
    return find_suspicious_masks(statistics, classes)


def usual(count: int = 12) -> dict[str, np.ndarray]:
    """Discs of 10 to 15 pixels radius."""
    return {f"c{index:02d}": disc(10 + index % 6) for index in range(count)}


def found(masks: dict[str, np.ndarray], classes: list[str] = BINARY) -> list[tuple[str, str]]:
    return [(item.case, item.kind) for item in audit(masks, classes)]


def test_masks_that_vary_by_a_factor_of_two_are_not_suspicious() -> None:
    assert audit(usual(), BINARY) == []


def test_an_empty_a_full_and_an_inverted_mask_come_first_in_this_order() -> None:
    masks = usual(20) | {"inverted": 1 - disc(12), "large": disc(31)}
    masks |= {"full": np.ones((64, 64), dtype=int), "empty": np.zeros((64, 64), dtype=int)}
    result = audit(masks, BINARY)
    assert [(item.case, item.kind, item.is_certain) for item in result] == [
        ("empty", "empty", True),
        ("full", "full", True),
        ("inverted", "inverted", True),
        ("large", "area", False),
    ]
    assert "100 % of the image's border, usually 0 %" in result[2].text


def test_a_background_that_is_usually_labelled_makes_the_mask_without_it_the_inverted_one() -> None:
    masks = {case: 1 - mask for case, mask in usual().items()} | {"odd": disc(12)}
    assert found(masks) == [("odd", "inverted")]


def test_empty_masks_are_nothing_special_where_one_in_five_is_empty() -> None:
    masks = usual(12) | {f"empty{index}": np.zeros((64, 64), dtype=int) for index in range(3)}
    assert found(masks) == []


def test_a_speck_has_an_unusual_area() -> None:
    assert found(usual() | {"speck": disc(1.5)}) == [("speck", "area")]


def test_many_parts_are_unusual_among_masks_of_one_part() -> None:
    specks = disc(12)
    specks[2:60:6, 2] = specks[2:60:6, 61] = 1
    (suspicion,) = audit(usual() | {"specks": specks}, BINARY)
    assert (suspicion.case, suspicion.kind) == ("specks", "parts")
    assert suspicion.text == "polyp in 21 parts, usually 1 (z +6.1)"


def test_a_stray_seven_is_named_with_its_mask() -> None:
    masks = usual(10)
    masks["c03"] = np.where(disc(2) > 0, 7, masks["c03"])
    classes = ["background", *(f"class_{index}" for index in range(1, 8))]
    (suspicion,) = audit(masks, classes)
    assert (suspicion.case, suspicion.kind, suspicion.is_certain) == ("c03", "class", True)
    assert suspicion.text == "stray value? class_7 occurs in 1 of 10 masks, here in 12 pixels"


def test_a_class_of_a_third_of_the_masks_is_no_stray_value() -> None:
    masks = {case: mask + disc(4) * (index % 3 == 0) for index, (case, mask) in enumerate(usual().items())}
    assert found(masks, ["background", "disc", "cup"]) == []


def test_noise_of_a_few_pixels_in_many_masks_is_a_stray_value() -> None:
    masks = {case: np.kron(mask, np.ones((8, 8), dtype=int)) for case, mask in usual().items()}
    for mask in masks.values():
        mask[0, 0] = 2
    assert {kind for _, kind in found(masks, ["background", "disc", "cup"])} == {"class"}


def test_four_masks_are_too_few_to_tell() -> None:
    assert audit({"a": disc(10), "b": disc(10), "c": disc(10), "d": 1 - disc(10)}, BINARY) == []
