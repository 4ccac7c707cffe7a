"""Post-processing is chosen where it helps beyond chance, and only there."""

import numpy as np

from guidino_cli.data.postprocess import PostprocessRule
from guidino_cli.engine.prediction.postprocessing import CANDIDATES, RuleSelector


def _truth() -> np.ndarray:
    mask = np.zeros((40, 40), dtype=bool)
    mask[10:20, 10:20] = True
    return mask


def test_a_far_piece_in_every_case_is_removed() -> None:
    trials = RuleSelector()
    for column in range(12):
        predicted = _truth()
        predicted[30:35, column : column + 5] = True
        trials.add(predicted, _truth())
    choice = trials.select()
    # 100 of 125 predicted pixels are right: Dice 200 / 225.
    assert abs(choice.before - 200 / 225) < 1e-9
    assert choice.after == 1.0
    assert choice.rule != PostprocessRule()
    assert choice.p < 0.05


def test_where_nothing_is_wrong_nothing_is_chosen() -> None:
    trials = RuleSelector()
    for _ in range(12):
        trials.add(_truth(), _truth())
    assert trials.select().rule == PostprocessRule()


def test_help_in_two_cases_is_chance() -> None:
    trials = RuleSelector()
    for number in range(12):
        predicted = _truth()
        predicted[30:35, 5:10] = number < 2
        trials.add(predicted, _truth())
    choice = trials.select()
    assert choice.rule == PostprocessRule()
    assert choice.best_after > choice.before


def test_what_harms_is_not_chosen() -> None:
    """Two true pieces: keeping the largest would lose one."""
    trials, truth = RuleSelector(), _truth()
    truth[30:36, 30:36] = True
    for _ in range(12):
        trials.add(truth, truth)
    assert trials.select().rule == PostprocessRule()


def test_fifteen_rules_are_tried() -> None:
    """Four shares, largest or not, filled or not, without the one that does nothing."""
    assert len(set(CANDIDATES)) == len(CANDIDATES) == 15
    assert PostprocessRule(0.005, True, True) in CANDIDATES
    assert PostprocessRule() not in CANDIDATES
