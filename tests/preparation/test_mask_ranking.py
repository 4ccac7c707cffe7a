"""The order of an audit: certain faults, then disagreement, then what was not compared."""

import numpy as np

from guidino_cli.data.masks.statistics import region_statistics
from guidino_cli.preparation.mask_audit import MaskStatistics
from guidino_cli.preparation.mask_ranking import RankedMask, rank_masks


def square(top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((40, 40), dtype=int)
    mask[top : top + side, left : left + side] = 1
    return mask


def statistics(extra: dict[str, np.ndarray]) -> dict[str, MaskStatistics]:
    masks = {f"c{i}": square(5 + i, 5 + i, 12 + i) for i in range(8)} | extra
    return {case: region_statistics(mask, 2) for case, mask in masks.items()}


def rank(extra: dict[str, np.ndarray], agreements: dict[str, float]) -> list[RankedMask]:
    named = {case: (value, "polyp") for case, value in agreements.items()}
    return rank_masks(statistics(extra), ["background", "polyp"], named)


def test_certain_faults_come_before_low_agreement_and_unmeasured_masks_last() -> None:
    agreements = {f"c{i}": 0.9 + i / 100 for i in range(7)} | {"c3": 0.2, "inverted": 0.01}
    ranked = rank({"inverted": 1 - square(10, 10, 15), "empty": square(0, 0, 0)}, agreements)
    assert [item.case for item in ranked] == ["empty", "inverted", "c3", "c0", "c1", "c2", "c4", "c5", "c6", "c7"]
    assert [item.is_certain for item in ranked] == [True, True] + [False] * 8
    assert ranked[2].reason == "judged by the other masks, polyp lies elsewhere"
    assert ranked[3].reason == ranked[-1].reason == ""


def test_a_mask_on_the_border_that_its_image_confirms_is_not_certainly_inverted() -> None:
    ranked = rank({"large": 1 - square(10, 10, 15)}, {"large": 0.97, "c0": 0.6})
    assert [item.case for item in ranked[:2]] == ["c0", "large"]
    assert not ranked[1].is_certain
    assert ranked[1].suspicions[0].kind == "inverted"


def test_border_and_image_together_prove_a_mask_inverted_that_touches_two_thirds_of_the_border() -> None:
    half = np.ones((40, 40), dtype=int)
    half[:26, 14:] = 0
    assert 0.5 < 1 - region_statistics(half, 2)[0].border < 0.75
    assert rank({"half": half}, {"half": 0.1})[0].is_certain
    assert not any(item.is_certain for item in rank({"half": half}, {"half": 0.6}))


def test_empty_masks_come_last_where_they_are_usual() -> None:
    extra = {f"e{i}": square(0, 0, 0) for i in range(3)}
    ranked = rank(extra, {f"c{i}": 0.9 for i in range(8)})
    assert [item.case for item in ranked[-3:]] == ["e0", "e1", "e2"]
    assert not any(item.suspicions for item in ranked)


def test_without_agreements_the_masks_with_the_gravest_reasons_come_first() -> None:
    ranked = rank({"speck": square(20, 20, 2), "smaller": square(20, 20, 1)}, {})
    assert [item.case for item in ranked[:3]] == ["smaller", "speck", "c0"]
