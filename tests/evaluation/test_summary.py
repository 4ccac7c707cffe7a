"""Means, denominators and intervals."""

from math import isnan, nan

import numpy as np
import pytest

from guidino_cli.evaluation.summary import bootstrap_means, percentile_interval, summarize


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
