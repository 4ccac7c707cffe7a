"""Expected Dice: the regression against augmented least squares, its reported error, and when it is not fitted."""

import numpy as np
import pytest
from scipy.stats import rankdata

from guidino_cli.engine.prediction.quality import CaseQuality
from guidino_cli.engine.risk.expected_dice import MIN_CASES, ExpectedDice, fit_expected_dice


def make_cases(count: int, *, noise: float = 0.05, seed: int = 0) -> tuple[list[CaseQuality], list[float], list[str]]:
    """Cases whose Dice rises with both scores."""
    generator = np.random.default_rng(seed)
    skill = generator.random(count)
    qualities = [CaseQuality(0.6 + 0.3 * value**2, 0.5 + 0.4 * value, contrast=generator.normal()) for value in skill]
    dices = np.clip(0.3 + 0.6 * skill + generator.normal(0, noise, count), 0, 1)
    return qualities, dices.tolist(), [f"patient{i}" for i in range(count)]


def test_the_fit_is_the_ridge_regression_on_ranks() -> None:
    """The solution minimises the penalised squares: solved here by least squares with rows that hold the penalty."""
    qualities, dices, groups = make_cases(40)
    fit = fit_expected_dice(qualities, dices, groups)
    assert isinstance(fit, ExpectedDice)
    assert fit.scores == ("mean_probability", "soft_dice", "contrast")
    values = np.array([[item.mean_probability, item.soft_dice, item.contrast] for item in qualities])
    # Middle ranks in (0, n), mapped to (-1, 1).
    ranks = (2 * rankdata(values, axis=0) - 1) / 40 - 1
    design = np.vstack([np.hstack([ranks, np.ones((40, 1))]), np.hstack([np.eye(3), np.zeros((3, 1))])])
    solution = np.linalg.lstsq(design, np.array([*dices, 0, 0, 0]), rcond=None)[0]
    assert [*fit.weights, fit.intercept] == pytest.approx(solution.tolist())
    assert fit.predict(qualities[3]) == pytest.approx(ranks[3] @ solution[:3] + solution[3])


def test_scores_that_tell_give_a_smaller_error_than_the_mean() -> None:
    fit = fit_expected_dice(*make_cases(60))
    assert isinstance(fit, ExpectedDice)
    # Noise of 0.05 has a mean absolute value of 0.04; the spread of the Dice one of 0.15.
    assert fit.error == pytest.approx(0.04, abs=0.015)
    assert fit.error_of_mean == pytest.approx(0.15, abs=0.03)


def test_the_stated_error_is_that_on_new_cases() -> None:
    fit = fit_expected_dice(*make_cases(60))
    assert isinstance(fit, ExpectedDice)
    qualities, dices, _ = make_cases(2000, seed=9)
    errors = [abs(float(fit.predict(item) or 0) - dice) for item, dice in zip(qualities, dices, strict=True)]
    assert fit.error == pytest.approx(np.mean(errors), rel=0.25)


def test_monotone_maps_of_the_scores_change_nothing() -> None:
    qualities, dices, groups = make_cases(40)
    stretched = [CaseQuality(q.mean_probability**9, np.exp(q.soft_dice), contrast=q.contrast) for q in qualities]
    first, second = fit_expected_dice(qualities, dices, groups), fit_expected_dice(stretched, dices, groups)
    assert isinstance(first, ExpectedDice)
    assert isinstance(second, ExpectedDice)
    assert second.weights == pytest.approx(first.weights)
    assert second.error == pytest.approx(first.error)


def test_an_empty_mask_is_expected_to_be_worth_nothing() -> None:
    fit = fit_expected_dice(*make_cases(40))
    assert isinstance(fit, ExpectedDice)
    assert fit.predict(CaseQuality(contrast=0.0)) == 0


def test_a_score_that_is_missing_leaves_it_out() -> None:
    fit = fit_expected_dice(*make_cases(40))
    assert isinstance(fit, ExpectedDice)
    assert fit.predict(CaseQuality(0.7, 0.7)) is None


def test_too_few_cases_or_patients_are_left_out_with_the_number() -> None:
    qualities, dices, groups = make_cases(MIN_CASES)
    assert isinstance(fit_expected_dice(qualities, dices, groups), ExpectedDice)
    reason = fit_expected_dice(qualities[1:], dices[1:], groups[1:])
    assert reason == "19 validation cases with foreground, expected at least 20"
    assert fit_expected_dice(qualities, dices, ["a", "b", "c", "d"] * 5) == (
        "validation cases of 4 groups, expected at least 5"
    )


def test_scores_that_tell_nothing_are_left_out() -> None:
    qualities, dices, groups = make_cases(40)
    shuffled = np.random.default_rng(5).permutation(dices).tolist()
    reason = fit_expected_dice(qualities, shuffled, groups)
    assert isinstance(reason, str)
    assert "is not below that of the mean Dice" in reason
