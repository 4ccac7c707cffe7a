"""Paired differences and their tests, against values computed by hand."""

from math import isnan, nan

import numpy as np
import pytest

from guidino_cli.evaluation.comparison import (
    PairedComparison,
    compare_pair,
    holm_correction,
    rank_biserial,
    signed_rank_p,
)


def compare(values: list[float], metric: str = "dice") -> PairedComparison:
    return compare_pair("a", "b", metric, np.array(values), target="polyp")


def test_wins_ties_and_losses_follow_the_direction_of_the_metric() -> None:
    dice, hd95 = compare([0.1, 0.0, -0.2, 0.3]), compare([0.1, 0.0, -0.2, 0.3], "hd95")
    assert (dice.wins, dice.ties, dice.losses) == (2, 1, 1)
    assert (hd95.wins, hd95.ties, hd95.losses) == (1, 1, 2)


def test_six_gains_out_of_six_have_the_exact_p_value_of_2_in_64() -> None:
    assert signed_rank_p(np.array([1.0, 2, 3, 4, 5, 6])) == pytest.approx(2 / 64)


def test_five_pairs_are_too_few_for_a_p_value() -> None:
    assert isnan(signed_rank_p(np.array([1.0, 2, 3, 4, 5])))


def test_equal_predictions_have_neither_p_value_nor_effect() -> None:
    same = compare([0.0] * 10)
    assert isnan(same.p_value)
    assert isnan(same.effect)
    assert (same.ties, same.mean) == (10, 0.0)


def test_the_effect_weighs_differences_by_rank() -> None:
    # Ranks 1, 2, 3 of the sizes; the loss has rank 3: (1 + 2 - 3) / 6.
    assert rank_biserial(np.array([0.1, 0.2, -0.3])) == 0.0
    assert rank_biserial(np.array([0.1, 0.2, 0.3])) == 1.0


def test_a_case_without_a_value_on_one_side_is_left_out_and_counted() -> None:
    found = compare([0.1, nan, 0.3])
    assert (found.used, found.differences.size) == (2, 3)
    assert found.mean == pytest.approx(0.2)


def test_holm_multiplies_by_the_number_of_remaining_tests_and_never_decreases() -> None:
    assert holm_correction([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_holm_does_not_count_a_comparison_without_p_value() -> None:
    assert holm_correction([0.02, nan])[0] == pytest.approx(0.02)


def test_the_interval_of_a_constant_difference_is_that_difference() -> None:
    found = compare([0.25] * 8)
    assert (found.ci_low, found.ci_high) == (0.25, 0.25)


def test_groups_and_not_their_cases_are_tested() -> None:
    """Eight gains in two groups are two observations, in six groups six: p = 2 / 64."""
    gains = np.arange(1.0, 9.0)
    assert isnan(compare_pair("a", "b", "dice", gains, target="polyp", groups=list("aaaabbbb")).p_value)
    six = compare_pair("a", "b", "dice", gains, target="polyp", groups=list("aabbcdef"))
    assert six.p_value == pytest.approx(2 / 64)


def test_one_group_has_no_interval() -> None:
    found = compare_pair("a", "b", "dice", np.array([0.1, 0.2, 0.3]), target="polyp", groups=["a", "a", "a"])
    assert isnan(found.ci_low)
    assert isnan(found.ci_high)
