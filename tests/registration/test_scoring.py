"""Scores of labels and fields, worked out by hand."""

from math import hypot, isnan, log

import numpy as np
import pytest

from guidino_cli.registration.scoring import correlate_images, list_labels, score_field, score_label


def test_a_square_moved_by_two_of_ten_columns_has_dice_of_four_fifths() -> None:
    fixed = np.zeros((20, 30), dtype=bool)
    fixed[5:15, 5:15] = True
    score = score_label(np.roll(fixed, 2, axis=1), fixed, (1.0, 0.5))
    assert score.dice == pytest.approx(0.8)
    assert score.hd95 == pytest.approx(1.0)


def test_a_label_that_is_lost_scores_0_and_the_diagonal() -> None:
    fixed = np.zeros((30, 40), dtype=bool)
    fixed[3:5, 3:5] = True
    score = score_label(np.zeros_like(fixed), fixed, (2.0, 1.0))
    assert (score.dice, score.hd95, score.asd) == (0, pytest.approx(hypot(60, 40)), pytest.approx(hypot(60, 40)))


def test_labels_of_either_image_count() -> None:
    assert list_labels(np.array([0, 2]), np.array([0, 255])) == [2, 255]


def test_a_translation_has_its_length_and_does_not_deform() -> None:
    field = np.zeros((3, 4, 5, 6), dtype=np.float32)
    field[0], field[2] = 3, 4
    score = score_field(field, (1.0, 2.0, 0.5))
    assert (score.folding, score.std_log_jacobian) == (0, 0)
    assert (score.mean_displacement, score.largest_displacement) == pytest.approx((hypot(3, 2), hypot(3, 2)))


def test_folding_is_the_share_of_determinants_that_are_not_positive() -> None:
    # Along x: u' is 1 in the first half, -2 in the second; in between, central differences give -1/2 twice.
    places = np.arange(12)
    row = np.where(places < 6, places, 5 - 2 * (places - 5)).astype(np.float32)
    field = np.zeros((2, 3, 12), dtype=np.float32)
    field[1] = row
    score = score_field(field, (1.0, 1.0))
    # Determinants 2 at columns 0 to 4, 1/2 at column 5, -1 from column 6 on.
    assert score.folding == pytest.approx(0.5)
    logs = [log(2)] * 5 + [log(0.5)]
    assert score.std_log_jacobian == pytest.approx(np.std(logs), rel=1e-5)


def test_correlation_ignores_scale_and_is_undefined_for_a_constant_image() -> None:
    image = np.random.default_rng(0).random((5, 6))
    assert correlate_images(image, 7 - 3 * image) == pytest.approx(-1)
    assert isnan(correlate_images(image, np.ones((5, 6))))
