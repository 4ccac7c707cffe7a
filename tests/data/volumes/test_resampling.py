"""Resampling of volumes: sizes, long voxels, classes."""

import numpy as np
import pytest
from scipy import ndimage

from guidino_cli.data.volumes.resampling import (
    argmax_of_maps,
    find_long_axis,
    resample_image,
    resample_labels,
    resample_map,
    resampled_size,
    resampled_spacing,
)


def test_the_size_follows_from_the_spacing_and_keeps_the_extent() -> None:
    # 10 slices of 5 mm are 50 mm: 20 of 2.5 mm. 33 columns of 1 mm at 2 mm: 16.5, of which Python's rounding takes 16.
    size = resampled_size((10, 20, 33), (5.0, 1.0, 1.0), (2.5, None, 2.0))
    assert size == (20, 20, 16)
    spacing = resampled_spacing((10, 20, 33), (5.0, 1.0, 1.0), size)
    assert spacing == (2.5, 1.0, 33 / 16)


def test_an_axis_never_vanishes() -> None:
    assert resampled_size((1, 8, 8), (1.0, 1.0, 1.0), (10.0, None, None)) == (1, 8, 8)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((3.0, 1.0, 1.0), (3.0, 1.0, 1.0), None),
        ((3.1, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 4.0), 2),
        ((0.24, 1.25, 1.25), (0.24, 1.25, 1.25), None),
        ((1.0, 5.0, 5.0001), (1.0, 5.0, 5.0), None),
    ],
)
def test_voxels_more_than_three_times_as_long_as_wide_have_a_long_axis(
    before: tuple[float, float, float], after: tuple[float, float, float], expected: int | None
) -> None:
    assert find_long_axis(before, after) == expected


def test_a_constant_stays_constant_and_a_ramp_stays_a_ramp() -> None:
    assert np.allclose(resample_image(np.full((4, 5, 6), 7), (8, 3, 9), long_axis=None), 7)
    ramp = np.broadcast_to(np.arange(16.0), (4, 4, 16))
    doubled = resample_map(ramp, (4, 4, 32), long_axis=None)
    # New voxel centres lie at -0.25, 0.25, 0.75, ... of the old ones; the edge is repeated outside.
    assert np.allclose(doubled[0, 0, 1:-1], np.arange(0.25, 15, 0.5), atol=1e-5)
    assert doubled[0, 0, 0] == 0


def test_the_long_axis_takes_the_nearest_slice() -> None:
    slices = np.arange(4.0)[:, None, None] * np.ones((4, 2, 2))
    for size, expected in ((8, [0, 0, 1, 1, 2, 2, 3, 3]), (2, [1, 3])):
        resampled = resample_image(slices, (size, 2, 2), long_axis=0)
        assert resampled[:, 0, 0].tolist() == expected
    # The plane is still interpolated.
    plane = np.broadcast_to(np.arange(8.0), (3, 8, 8))
    wide = resample_map(plane, (3, 8, 16), long_axis=0)
    assert wide[0, 0, 3] == pytest.approx(1.25)


def test_labels_keep_their_values_and_most_of_the_share_wins() -> None:
    labels = np.zeros((4, 4, 4), dtype=np.uint8)
    labels[:, :, 2:] = 5
    assert np.array_equal(resample_labels(labels, (4, 4, 8), long_axis=None)[0, 0], [0, 0, 0, 0, 5, 5, 5, 5])
    assert resample_labels(labels, (2, 2, 2), long_axis=None)[0, 0].tolist() == [0, 5]
    assert resample_labels(labels, (4, 4, 8), long_axis=2).dtype == np.uint8


def test_the_largest_of_maps_is_that_of_numpy() -> None:
    maps = np.random.default_rng(0).random((5, 3, 4, 5)).astype(np.float32)
    maps[1, 0, 0, 0] = maps[0, 0, 0, 0] = 2
    found = argmax_of_maps(iter(maps))
    assert np.array_equal(found, maps.argmax(axis=0))
    assert found.dtype == np.uint8


@pytest.mark.parametrize("size", [(8, 13, 11), (16, 16, 20), (10, 9, 24)])
def test_axes_one_after_the_other_are_all_axes_at_once(size: tuple[int, int, int]) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, (10, 16, 12)).astype(np.int16)
    factors = [new / old for new, old in zip(size, values.shape, strict=True)]
    for order, resample in ((3, resample_image), (1, resample_map)):
        expected = ndimage.zoom(values.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True)
        found = resample(values, size, long_axis=None)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-3)
