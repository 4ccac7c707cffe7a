"""Statistics of one value per case and the bootstrap interval."""

from math import isnan, nan

import numpy as np
import pytest

from guidino_cli.evaluation.statistics import bootstrap_means, percentile_interval, summarize


def test_a_missing_value_lowers_used_but_not_total() -> None:
    summary = summarize(np.array([1.0, nan, 3.0]))
    assert (summary.used, summary.total, summary.mean) == (2, 3, 2.0)


def test_the_standard_deviation_divides_by_n_minus_one() -> None:
    assert summarize(np.array([1.0, 3.0])).std == pytest.approx(2**0.5)


def test_no_value_has_no_mean() -> None:
    summary = summarize(np.array([nan, nan]))
    assert isnan(summary.mean)
    assert (summary.used, summary.total) == (0, 2)


def test_quartiles_are_interpolated() -> None:
    summary = summarize(np.array([0.0, 1.0, 2.0, 3.0]))
    assert (summary.q25, summary.median, summary.q75) == (0.75, 1.5, 2.25)


def test_the_interval_of_a_normal_sample_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(0).normal(size=(400, 1))
    low, high = percentile_interval(bootstrap_means(values)[:, 0])
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)
    assert low < values.mean() < high


def test_the_same_seed_draws_the_same_cases() -> None:
    values = np.random.default_rng(0).normal(size=(50, 2))
    np.testing.assert_array_equal(bootstrap_means(values, seed=3), bootstrap_means(values, seed=3))


def test_ten_copies_of_each_patient_do_not_narrow_the_interval_of_patients() -> None:
    patients = np.random.default_rng(0).normal(size=20)
    copies, names = np.repeat(patients, 10)[:, None], np.repeat(np.arange(20), 10).astype(str)
    width = np.diff(percentile_interval(bootstrap_means(patients[:, None])[:, 0]))
    naive = np.diff(percentile_interval(bootstrap_means(copies)[:, 0]))
    grouped = np.diff(percentile_interval(bootstrap_means(copies, list(names))[:, 0]))
    assert grouped == pytest.approx(width, rel=0.1)
    assert naive < 0.5 * width


def test_a_column_with_missing_values_is_averaged_over_the_drawn_ones() -> None:
    means = bootstrap_means(np.array([[1.0], [nan], [1.0]]))
    assert set(np.unique(means[~np.isnan(means)])) == {1.0}


def test_an_infinite_value_has_no_interval() -> None:
    assert all(isnan(end) for end in percentile_interval(np.array([1.0, np.inf])))


def test_the_interval_leaves_out_one_fortieth_at_each_end() -> None:
    assert percentile_interval(np.arange(1001.0)) == (25.0, 975.0)
    assert percentile_interval(np.array([nan, 3.0])) == (3.0, 3.0)
    assert all(isnan(end) for end in percentile_interval(np.array([nan])))


def test_a_single_value_has_no_standard_deviation_and_ends() -> None:
    summary = summarize(np.array([0.25, nan]), (0.125, 0.5))
    assert isnan(summary.std)
    assert (summary.smallest, summary.largest, summary.ci_low, summary.ci_high) == (0.25, 0.25, 0.125, 0.5)


def test_an_infinite_value_leaves_no_quartiles() -> None:
    with np.errstate(invalid="ignore"):
        summary = summarize(np.array([1.0, np.inf]))
    assert isnan(summary.median)
    assert (summary.smallest, summary.largest) == (1.0, np.inf)


def test_every_draw_of_more_cases_than_a_block_holds_is_a_mean() -> None:
    """1,500 cases need two blocks of draws, of which the last is not full."""
    values = np.random.default_rng(7).uniform(0.25, 0.75, (1500, 1))
    means = bootstrap_means(values)
    assert means.shape == (2000, 1)
    assert means.min() >= values.min()
    assert means.max() <= values.max()
    assert means.std() == pytest.approx(values.std() / 1500**0.5, rel=0.1)


def test_draws_of_two_cases_are_a_half_one_of_both_and_a_quarter_each() -> None:
    means = bootstrap_means(np.array([[0.0, 4.0], [1.0, 8.0]]), resamples=4000)
    np.testing.assert_array_equal(means[:, 1], 4 + 4 * means[:, 0])
    shares = [(means[:, 0] == value).mean() for value in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.25], atol=0.03)


def test_a_group_without_values_is_drawn_too() -> None:
    """Of two groups only the first has a value: a quarter of the draws hold the other one alone."""
    means = bootstrap_means(np.array([[1.0], [3.0], [nan]]), ["a", "a", "b"], resamples=4000)
    assert set(means[~np.isnan(means)]) == {2.0}
    assert np.isnan(means).mean() == pytest.approx(0.25, abs=0.03)
