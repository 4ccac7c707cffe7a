"""Instance maps: merging and splitting in bits, and the adapted Rand error, from hand-made partitions."""

import numpy as np
import pytest

from guidino_cli.metrics.instances import adapted_rand_error, variation_of_information

TWO = np.array([[1, 1, 2, 2]])
ONE = np.array([[7, 7, 7, 7]])


def test_merging_two_halves_loses_one_bit() -> None:
    assert variation_of_information(ONE, TWO) == pytest.approx((1.0, 0.0))


def test_splitting_into_halves_adds_one_bit() -> None:
    assert variation_of_information(TWO, ONE) == pytest.approx((0.0, 1.0))


def test_the_numbers_of_instances_do_not_matter() -> None:
    renumbered = np.array([[60000, 60000, 3, 3]])
    assert adapted_rand_error(renumbered, TWO) == pytest.approx(0.0)
    assert variation_of_information(renumbered, TWO) == pytest.approx((0.0, 0.0))


def test_merging_two_halves_has_a_rand_error_of_one_half() -> None:
    # Ordered pairs of different pixels: 4 together in the truth, 12 in the prediction, 4 in both; so precision 1/3,
    # recall 1, F1 1/2.
    assert adapted_rand_error(ONE, TWO) == pytest.approx(0.5)
