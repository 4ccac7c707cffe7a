"""Overlap figures against counts done by hand."""

import math

import numpy as np
import pytest

from guidino_cli.metrics.overlap import Counts, count, dice, iou, precision, recall, size_error, specificity


def test_two_of_three_predicted_pixels_are_among_four_true_ones() -> None:
    prediction = np.array([[1, 1, 1, 0, 0, 0]], dtype=bool)
    truth = np.array([[0, 1, 1, 1, 1, 0]], dtype=bool)
    assert count(prediction, truth) == Counts(tp=2, fp=1, fn=2, tn=1)


def test_figures_of_known_counts() -> None:
    counts = Counts(tp=2, fp=1, fn=2, tn=1)
    assert dice(counts) == pytest.approx(4 / 7)
    assert iou(counts) == pytest.approx(2 / 5)
    assert precision(counts) == pytest.approx(2 / 3)
    assert recall(counts) == pytest.approx(1 / 2)
    assert specificity(counts) == pytest.approx(1 / 2)
    assert size_error(counts) == pytest.approx(1 / 4)


def test_an_identical_mask_is_perfect() -> None:
    mask = np.eye(5, dtype=bool)
    assert dice(count(mask, mask)) == iou(count(mask, mask)) == 1.0


def test_two_empty_masks_have_no_overlap_figure() -> None:
    empty = np.zeros((4, 4), dtype=bool)
    assert math.isnan(dice(count(empty, empty)))
    assert math.isnan(iou(count(empty, empty)))


def test_ignored_pixels_are_no_true_negatives() -> None:
    empty = np.zeros((2, 2), dtype=bool)
    assert count(empty, empty, ignored=3).tn == 1


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        count(np.zeros((2, 3), dtype=bool), np.zeros((3, 2), dtype=bool))
