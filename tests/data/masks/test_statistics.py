"""Area, border contact and parts of the classes of a mask, counted by hand."""

import numpy as np

from guidino_cli.data.masks.statistics import RegionStatistics, region_statistics


def test_a_mask_of_two_classes_is_counted_by_hand() -> None:
    labels = np.array([
        [1, 1, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 2],
        [1, 0, 0, 0],
    ])  # fmt: skip
    background, first, second = region_statistics(labels, 3)
    assert background == RegionStatistics(11, 11 / 16, 8 / 12, 0)
    # Corners connect the pixels of the first two rows; the one at the lower left is a part of its own.
    assert first == RegionStatistics(4, 4 / 16, 3 / 12, 2)
    assert second == RegionStatistics(1, 1 / 16, 1 / 12, 1)


def test_a_class_that_is_absent_has_no_parts() -> None:
    assert region_statistics(np.zeros((3, 5), dtype=np.uint8), 2)[1] == RegionStatistics(0, 0.0, 0.0, 0)


def test_a_single_row_counts_every_pixel_of_the_border_once() -> None:
    (_, region) = region_statistics(np.array([[1, 0, 0, 0]]), 2)
    assert region.area == region.border == 0.25


def test_a_pixel_that_thinning_drops_is_still_one_part() -> None:
    labels = np.zeros((1100, 1100), dtype=np.uint8)
    labels[1, 1] = 1
    assert region_statistics(labels, 2)[1] == RegionStatistics(1, 1 / 1100**2, 0.0, 1)


def test_many_classes_are_counted_as_few_are() -> None:
    labels = np.random.default_rng(0).integers(0, 6, (30, 40))
    assert region_statistics(labels, 40)[:6] == region_statistics(labels, 6)
