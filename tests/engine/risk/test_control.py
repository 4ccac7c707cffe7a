"""Conformal risk control: thresholds by hand, and the promise on synthetic probabilities."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from guidino_cli.engine.prediction.accumulation import CasePart
from guidino_cli.engine.risk.control import (
    LOSSES,
    Loss,
    cases_needed,
    choose_threshold,
    control_risk,
    losses_by_threshold,
    lowest_level,
    make_monotone,
)
from guidino_cli.engine.risk.regions import THRESHOLDS, RegionCurves, RegionMasks, cut_region
from guidino_cli.errors import DataError


def curves(foreground: Sequence[float], truth: Sequence[int]) -> RegionCurves:
    """Of one case with two classes, whose mask is p > 1/2."""
    p = np.array(foreground, dtype=np.float32)
    found = RegionCurves(1)
    found.add((p > 0.5).astype(int), p, np.array(truth))
    return found


def at(values: np.ndarray, threshold: float) -> float:
    """The value at the first threshold that is not below."""
    return float(values[np.searchsorted(THRESHOLDS, threshold)])


def test_missed_share_by_hand() -> None:
    losses = losses_by_threshold(curves([0.9, 0.4, 0.2, 0.1, 0.3], [1, 1, 1, 0, 0]), "fnr")
    # Of three true pixels: all above 0.1, then without 0.2, then only the one of the mask, which always stays.
    assert at(losses, 0.15) == 0
    assert at(losses, 0.25) == pytest.approx(1 / 3)
    assert at(losses, 0.45) == pytest.approx(2 / 3)
    assert losses[-1] == pytest.approx(2 / 3)
    assert losses[0] == 0


def test_wrong_share_by_hand() -> None:
    case = curves([0.9, 0.8, 0.7, 0.6, 0.2], [1, 0, 1, 0, 1])
    losses = losses_by_threshold(case, "fdr")
    assert at(losses, 0.1) == pytest.approx(2 / 4)
    assert at(losses, 0.65) == pytest.approx(1 / 3)
    assert at(losses, 0.75) == pytest.approx(1 / 2)
    assert at(losses, 0.85) == 0
    assert losses[-1] == 0
    # A tighter mask with a larger share of errors raises the loss of the wider ones.
    assert at(make_monotone(losses, "inner"), 0.65) == pytest.approx(1 / 2)
    # Two pixels of background: 0.8 and 0.6.
    assert at(losses_by_threshold(case, "fpr"), 0.65) == pytest.approx(1 / 2)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_monotone_in_the_threshold(loss: Loss) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        case = curves(generator.random(50), generator.integers(0, 2, 50))
        side = LOSSES[loss][0]
        steps = np.diff(make_monotone(losses_by_threshold(case, loss), side))
        assert (steps >= 0 if side == "outer" else steps <= 0).all()


def test_curves_count_what_the_regions_hold() -> None:
    generator = torch.Generator().manual_seed(1)
    probabilities = torch.rand(3, 40, generator=generator).softmax(dim=0)
    labels, truth = probabilities.argmax(dim=0).numpy(), np.arange(40) % 3
    for index in (1, 2):
        found = RegionCurves(index)
        found.add(labels, probabilities[index].numpy(), truth)
        for side in ("outer", "inner"):
            areas, common = found.areas(side)
            for place in (0, 200, 321, 360, 500, len(THRESHOLDS) - 1):
                region = cut_region(labels, probabilities[index], index, float(THRESHOLDS[place]), side)
                assert (areas[place], common[place]) == (region.sum(), (region & (truth == index)).sum())


def test_a_probability_that_is_a_threshold_belongs_to_the_region() -> None:
    threshold = THRESHOLDS[100]
    case = curves([threshold], [1])
    assert losses_by_threshold(case, "fnr")[100:102].tolist() == [0.0, 1.0]
    assert cut_region(np.array([0]), torch.tensor([threshold], dtype=torch.float32), 1, float(threshold), "outer").all()


def test_the_threshold_is_the_last_that_holds_with_the_correction() -> None:
    # Of nine cases at a level of 0.3, the sum of losses may be 0.3 * 10 - 1 = 2.
    losses = np.zeros((9, 4))
    losses[0] = [0, 1, 1, 1]
    losses[1] = [0, 0, 1, 1]
    losses[2] = [0, 0, 0, 1]
    assert choose_threshold(losses, risk=0.3, side="outer") == 2
    assert choose_threshold(losses, risk=0.29, side="outer") == 1
    assert choose_threshold(losses[:, ::-1], risk=0.3, side="inner") == 1
    assert choose_threshold(losses, risk=0.05, side="outer") is None


@pytest.mark.parametrize(("risk", "needed"), [(0.1, 9), (0.05, 19), (0.5, 1), (0.3, 3), (0.018, 55), (0.9, 1)])
def test_a_level_needs_its_inverse_less_one_cases(risk: float, needed: int) -> None:
    assert cases_needed(risk) == needed


def test_the_lowest_level_of_some_cases_can_be_held_by_them() -> None:
    assert lowest_level(55) == "0.018"
    for count in range(1, 200):
        assert cases_needed(float(lowest_level(count))) <= count


def test_too_few_cases_are_refused_with_the_number_needed() -> None:
    cases = [curves([0.9, 0.1], [1, 0])] * 8 + [curves([0.9, 0.1], [0, 0])] * 5
    with pytest.raises(DataError, match=r"polyp is in 8 validation cases, a level of 0.1 needs 9 .* 0.112 or more"):
        control_risk(cases, loss="fnr", risk=0.1, what="polyp")
    bound = control_risk([*cases, cases[0]], loss="fnr", risk=0.1, what="polyp")
    assert (bound.cases, bound.loss_of_region) == (9, 0.0)


def test_a_level_that_only_the_whole_image_holds_is_refused() -> None:
    cases = [curves([0.9, 0.0], [1, 1])] * 20
    with pytest.raises(DataError, match="only the whole image"):
        control_risk(cases, loss="fnr", risk=0.1, what="polyp")
    with pytest.raises(DataError, match="no inner mask holds it but an empty one"):
        control_risk([curves([0.9, 0.1], [0, 1])] * 20, loss="fdr", risk=0.1, what="polyp")


def test_the_outer_region_holds_the_mask_and_the_inner_one_lies_in_it() -> None:
    labels, probability = np.array([1, 1, 0, 0]), torch.tensor([0.9, 0.6, 0.4, 0.1])
    assert cut_region(labels, probability, 1, 1.0, "outer").tolist() == [True, True, False, False]
    assert cut_region(labels, probability, 1, 0.3, "outer").tolist() == [True, True, True, False]
    assert cut_region(labels, probability, 1, 0.0, "inner").tolist() == [True, True, False, False]
    assert cut_region(labels, probability, 1, 0.7, "inner").tolist() == [True, False, False, False]


def test_regions_of_parts_are_put_where_the_parts_are() -> None:
    probabilities = torch.tensor([[[0.9], [0.4], [0.3]], [[0.1], [0.6], [0.7]]])
    labels = np.array([[0], [1], [1]])
    masks = RegionMasks([(1, 0.05, "outer"), (1, 0.65, "inner")], (3, 1))
    for rows in (slice(0, 2), slice(2, 3)):
        masks.add(CasePart(rows.start, labels[rows], probabilities[:, rows]))
    assert masks.masks[..., 0].tolist() == [[1, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize("loss", LOSSES)
def test_the_mean_risk_over_200_splits_is_held_and_not_wasted(loss: Loss) -> None:
    """Maps of networks that are over-confident and wrong by the case, without any use of the rule under test."""
    generator = np.random.default_rng(3)
    cases = []
    for _ in range(240):
        truth = (np.arange(200) < generator.integers(20, 60)).astype(int)
        skill = generator.normal(1.5, 1.2)
        logits = 3 * (skill * (2 * truth - 1) + generator.normal(0, 1.5, 200))
        cases.append(curves(1 / (1 + np.exp(-logits)), truth))
    side = LOSSES[loss][0]
    losses = np.stack([losses_by_threshold(item, loss) for item in cases])
    monotone = make_monotone(losses, side)
    risk, realised, uncorrected = 0.1, [], []
    for number in range(200):
        order = np.random.default_rng(number).permutation(len(cases))
        place = choose_threshold(monotone[order[:40]], risk=risk, side=side)
        assert place is not None
        realised.append(monotone[order[40:], place].mean())
        held = np.flatnonzero(monotone[order[:40]].mean(axis=0) <= risk)
        uncorrected.append(monotone[order[40:], held[-1] if side == "outer" else held[0]].mean())
    # The paper's theorem 2: no less than the level minus 2 / (n + 1) where losses are continuous.
    assert risk - 2 / 41 <= np.mean(realised) <= risk
    # A single split may exceed the level, and without the correction the mean does.
    assert max(realised) > risk
    assert np.mean(uncorrected) > np.mean(realised)
