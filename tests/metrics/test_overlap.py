"""Overlap, instance and ranking metrics against values counted by hand."""

import math

import numpy as np
import pytest

from guidino_cli.metrics.overlap import (
    ConfusionCounts,
    adapted_rand_error,
    auroc,
    auroc_from_histograms,
    confusion_counts,
    dice,
    iou,
    iou_from_histograms,
    mean_dice,
    precision,
    recall,
    size_error,
    specificity,
    variation_of_information,
)

TWO = np.array([[1, 1, 2, 2]])
ONE = np.array([[7, 7, 7, 7]])


def test_merging_two_halves_loses_one_bit() -> None:
    assert variation_of_information(ONE, TWO) == pytest.approx((1.0, 0.0))


def test_splitting_into_halves_adds_one_bit() -> None:
    assert variation_of_information(TWO, ONE) == pytest.approx((0.0, 1.0))


def test_instance_metrics_do_not_depend_on_the_numbering() -> None:
    renumbered = np.array([[60000, 60000, 3, 3]])
    assert adapted_rand_error(renumbered, TWO) == pytest.approx(0.0)
    assert variation_of_information(renumbered, TWO) == pytest.approx((0.0, 0.0))


def test_merging_two_halves_has_a_rand_error_of_one_half() -> None:
    # Ordered pairs of different pixels: 4 together in the truth, 12 in the prediction, 4 in both; so precision 1/3,
    # recall 1, F1 1/2.
    assert adapted_rand_error(ONE, TWO) == pytest.approx(0.5)


@pytest.mark.parametrize("truth", [[[0, 3, 3, 0]], [[3, 3, 3, 3]], [[1, 1, 2, 2]]])
def test_nothing_predicted_has_the_largest_rand_error(truth: list[list[int]]) -> None:
    # scikit-image takes the background of the prediction for an instance, which would be the true one.
    assert adapted_rand_error(np.zeros((1, 4), dtype=int), np.array(truth)) == 1.0


@pytest.mark.filterwarnings("error")
def test_instances_of_a_pixel_each_have_no_pair_that_could_be_wrong() -> None:
    single = np.array([[1, 0, 2, 0, 3]])
    assert adapted_rand_error(single, single) == 0.0
    # All three are joined: no pair is right.
    assert adapted_rand_error(np.ones_like(single), single) == 1.0


def test_two_of_three_predicted_pixels_are_among_four_true_ones() -> None:
    prediction = np.array([[1, 1, 1, 0, 0, 0]], dtype=bool)
    truth = np.array([[0, 1, 1, 1, 1, 0]], dtype=bool)
    assert confusion_counts(prediction, truth) == ConfusionCounts(tp=2, fp=1, fn=2, tn=1)


def test_metrics_of_known_counts() -> None:
    counts = ConfusionCounts(tp=2, fp=1, fn=2, tn=1)
    assert dice(counts) == pytest.approx(4 / 7)
    assert iou(counts) == pytest.approx(2 / 5)
    assert precision(counts) == pytest.approx(2 / 3)
    assert recall(counts) == pytest.approx(1 / 2)
    assert specificity(counts) == pytest.approx(1 / 2)
    assert size_error(counts) == pytest.approx(1 / 4)


def test_an_identical_mask_is_perfect() -> None:
    mask = np.eye(5, dtype=bool)
    assert dice(confusion_counts(mask, mask)) == iou(confusion_counts(mask, mask)) == 1.0


def test_dice_and_iou_of_two_empty_masks_are_nan() -> None:
    empty = np.zeros((4, 4), dtype=bool)
    assert math.isnan(dice(confusion_counts(empty, empty)))
    assert math.isnan(iou(confusion_counts(empty, empty)))


def test_ignored_pixels_are_not_true_negatives() -> None:
    empty = np.zeros((2, 2), dtype=bool)
    assert confusion_counts(empty, empty, ignored=3).tn == 1


def test_masks_of_different_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        confusion_counts(np.zeros((2, 3), dtype=bool), np.zeros((3, 2), dtype=bool))


TRUTH = np.array([False, False, True, True])


@pytest.mark.parametrize(
    ("values", "area"),
    [
        ([0.1, 0.2, 0.3, 0.4], 1.0),
        ([0.4, 0.3, 0.2, 0.1], 0.0),
        # Of four pairs three are in order.
        ([0.1, 0.3, 0.2, 0.4], 0.75),
        # One pair in order twice over, one equal: (1 + 1 + 1 + 0.5) / 4.
        ([0.1, 0.3, 0.3, 0.4], 0.875),
        ([0.5, 0.5, 0.5, 0.5], 0.5),
    ],
)
def test_auroc_is_the_share_of_pairs_in_order_and_ties_count_half(values: list[float], area: float) -> None:
    assert auroc(np.array(values), TRUTH) == area


def test_auroc_equals_the_comparison_of_every_pair() -> None:
    generator = np.random.default_rng(0)
    values, truth = generator.integers(0, 9, (7, 8)) / 8, generator.random((7, 8)) < 0.3
    inside, outside = values[truth][:, None], values[~truth][None]
    assert auroc(values, truth) == pytest.approx(((inside > outside) + 0.5 * (inside == outside)).mean())


@pytest.mark.parametrize("truth", [np.zeros(4, dtype=bool), np.ones(4, dtype=bool)])
def test_auroc_without_both_kinds_of_pixels_is_not_a_number(truth: np.ndarray) -> None:
    assert np.isnan(auroc(np.arange(4.0), truth))


def test_auroc_from_histograms_of_two_levels() -> None:
    # Levels 0 and 1: of 2 x 3 pairs, 1 x 2 in order and 1 x 2 + 1 x 1 equal.
    assert auroc_from_histograms(np.array([1, 1]), np.array([2, 1])) == pytest.approx((2 + 0.5 * 3) / 6)


def test_iou_of_everything_at_or_above_each_level() -> None:
    # Levels 0, 1, 2. At 0 all 3 of the truth and 3 others; at 1: 2 and 1; at 2: 1 and none.
    assert iou_from_histograms(np.array([1, 1, 1]), np.array([2, 1, 0])) == pytest.approx([3 / 6, 2 / 4, 1 / 3])


def test_auroc_of_different_shapes_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="truth is"):
        auroc(np.zeros(3), np.zeros(4, dtype=bool))


def test_the_dice_that_selects_the_best_epoch_is_the_mean_over_the_foreground_classes() -> None:
    """Classes 1 and 2 have 1 of 2 and 1 pixels in common, class 3 is in neither; the background does not count."""
    labels, truth = np.array([[1, 1, 2, 0, 0]]), np.array([[1, 2, 2, 0, 0]])
    assert mean_dice(labels, truth, num_classes=4) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert mean_dice(labels, truth, num_classes=2) == pytest.approx(2 / 3)
    assert mean_dice(np.zeros((1, 5)), truth, num_classes=3) == 0.0


def test_iou_of_several_histograms_at_once() -> None:
    """One of two foreground pixels and no background at the upper level; all of both at the lower one."""
    foreground, background = np.array([[1, 1], [0, 0]]), np.array([[2, 0], [1, 0]])
    found = iou_from_histograms(foreground, background)
    np.testing.assert_allclose(found[0], [2 / 4, 1 / 2])
    assert found[1, 0] == 0.0
    assert math.isnan(found[1, 1])
