"""Lesion-wise metrics against values counted by hand."""

import math

import numpy as np
import pytest

from guidino_cli.metrics.lesions import (
    Lesions,
    count_unmatched,
    lesion_f1,
    lesion_precision,
    lesion_recall,
    match_lesions,
    pool_lesions,
    recall_by_size,
)


def blobs(*boxes: tuple[int, int, int, int], size: int = 30) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = True
    return mask


def test_one_object_found_one_missed_one_false() -> None:
    truth = blobs((1, 1, 4, 4), (10, 10, 2, 2))
    prediction = blobs((1, 1, 4, 4), (20, 20, 3, 3))
    lesions = match_lesions(prediction, truth)
    assert lesions == Lesions(sizes=(16, 4), found=(True, False), extra=1)
    assert lesion_f1(lesions) == lesion_recall(lesions) == lesion_precision(lesions) == 0.5


def test_one_blob_over_two_objects_finds_one_at_most() -> None:
    lesions = match_lesions(blobs((0, 0, 10, 20)), blobs((0, 0, 10, 9), (0, 11, 10, 9)))
    assert sum(lesions.found) == 1
    assert lesions.extra == 0


def test_fragments_of_one_object_count_once() -> None:
    lesions = match_lesions(blobs((0, 0, 10, 4), (0, 6, 10, 4)), blobs((0, 0, 10, 10)))
    assert sum(lesions.found) == 1
    assert lesions.extra == 1


def test_an_overlap_below_the_limit_is_no_match() -> None:
    truth, prediction = blobs((0, 0, 10, 10)), blobs((0, 9, 10, 10))  # IoU 10 / 190
    assert match_lesions(prediction, truth, min_iou=0.1).found == (False,)
    assert match_lesions(prediction, truth, min_iou=0.05).found == (True,)


def test_the_matching_is_maximal() -> None:
    """The first prediction fits both objects, the second only one of them: both are found."""
    truth = blobs((0, 0, 10, 10), (0, 11, 10, 10))
    prediction = blobs((0, 6, 10, 9), (0, 16, 10, 5))
    assert match_lesions(prediction, truth).found == (True, True)


def test_diagonal_neighbours_are_one_object() -> None:
    assert match_lesions(blobs(), np.eye(30, dtype=bool)).sizes == (30,)


def test_lesion_f1_of_two_empty_masks_is_nan() -> None:
    lesions = match_lesions(blobs(), blobs())
    assert math.isnan(lesion_f1(lesions))


def test_recall_by_size_counts_every_object_once() -> None:
    lesions = Lesions(sizes=(1, 2, 3, 4, 5, 6, 7, 8), found=(False,) * 4 + (True,) * 4, extra=0)
    bins = recall_by_size(lesions)
    assert [(part.smallest, part.largest, part.found, part.total) for part in bins] == [
        (1, 2, 0, 2),
        (3, 4, 0, 2),
        (5, 6, 2, 2),
        (7, 8, 2, 2),
    ]


def test_objects_of_one_size_share_one_bin() -> None:
    assert [part.total for part in recall_by_size(Lesions((5,) * 7, (True,) * 7, 0))] == [7]


def test_pooling_adds_up_the_objects_of_all_cases() -> None:
    pooled = pool_lesions([Lesions((4,), (True,), 1), Lesions((9, 1), (True, False), 0)])
    assert lesion_f1(pooled) == pytest.approx(4 / 6)


@pytest.mark.parametrize(("predicted", "found"), [(11, True), (12, False)])
def test_by_default_an_iou_of_a_tenth_matches(predicted: int, found: bool) -> None:
    """11 true pixels in a row share 2 with the prediction: 2 / 20, or 2 / 21."""
    assert match_lesions(blobs((0, 9, 1, predicted)), blobs((0, 0, 1, 11))).found == (found,)


def test_objects_of_volumes_are_connected_across_corners() -> None:
    truth = np.zeros((3, 3, 3), dtype=bool)
    truth[0, 0, 0] = truth[1, 1, 1] = truth[2, 2, 2] = True
    assert match_lesions(truth, truth) == Lesions((3,), (True,), 0)


def test_without_true_objects_there_are_only_false_ones() -> None:
    lesions = match_lesions(blobs((0, 0, 2, 2), (9, 9, 1, 1)), blobs())
    assert lesions == Lesions((), (), 2)
    assert (lesion_f1(lesions), lesion_precision(lesions)) == (0.0, 0.0)
    assert math.isnan(lesion_recall(lesions))
    missed = match_lesions(blobs(), blobs((0, 0, 2, 2)))
    assert missed == Lesions((4,), (False,), 0)
    assert math.isnan(lesion_precision(missed))
    assert lesion_f1(missed) == 0.0


def test_quarters_of_the_sizes_have_a_recall() -> None:
    bins = recall_by_size(Lesions((10, 1, 20, 30), (True, False, True, False), 0))
    assert [(part.smallest, part.recall) for part in bins] == [(1, 0.0), (10, 1.0), (20, 1.0), (30, 0.0)]
    halves = recall_by_size(Lesions((10, 1, 20, 30), (True, False, True, True), 0), bins=2)
    assert [(part.largest, part.recall) for part in halves] == [(10, 0.5), (30, 1.0)]
    assert recall_by_size(Lesions((), (), 3)) == []


def test_objects_that_touch_nothing_of_the_other_mask_are_counted_whole() -> None:
    """Three objects of 2, 3 and 4 voxels; one voxel of the second is shared, so 2 + 4 remain."""
    first, second = np.zeros((2, 1, 1, 20), dtype=bool)
    first[..., 0:2] = first[..., 5:8] = first[..., 12:16] = True
    second[..., 7:10] = True
    assert count_unmatched(first, second) == 6
    assert count_unmatched(second, first) == 0
    assert count_unmatched(first, np.zeros_like(first)) == 9
    assert count_unmatched(np.zeros_like(first), second) == 0


def test_objects_are_connected_across_edges_but_not_across_corners() -> None:
    """As in autoPET (18 neighbours): a voxel across an edge belongs to the object that was hit."""
    truth = np.zeros((3, 3, 3), dtype=bool)
    truth[0, 0, 0] = True
    for neighbour, missed in (((1, 1, 0), 0), ((1, 1, 1), 1)):
        prediction = truth.copy()
        prediction[neighbour] = True
        assert count_unmatched(prediction, truth) == missed
