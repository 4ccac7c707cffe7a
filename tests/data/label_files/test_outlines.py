"""Outlines of masks: by hand, and filled again."""

import numpy as np
import pytest

from guidino_cli.data.label_files.outlines import join_holes, trace_outlines
from guidino_cli.data.label_files.polygons import fill_polygon, fill_rings


def test_a_pixel_has_its_four_corners_clockwise() -> None:
    mask = np.zeros((3, 4), dtype=bool)
    mask[1, 2] = True
    assert [ring.tolist() for ring in trace_outlines(mask)] == [[[2, 1], [3, 1], [3, 2], [2, 2]]]


def test_pixels_that_touch_at_a_corner_have_outlines_of_their_own() -> None:
    rings = trace_outlines(np.eye(2, dtype=bool))
    assert sorted(ring.tolist()[0] for ring in rings) == [[0, 0], [1, 1]]
    assert [len(ring) for ring in rings] == [4, 4]


@pytest.mark.parametrize("seed", range(20))
def test_outlines_filled_again_are_the_mask(seed: int) -> None:
    from scipy import ndimage

    random = np.random.default_rng(seed)
    mask = ndimage.binary_dilation(random.random((19, 23)) < 0.15, iterations=int(seed % 2))
    filled, joined = np.zeros_like(mask), np.zeros_like(mask)
    numbered, count = ndimage.label(mask)
    for number in range(1, count + 1):
        outer, *holes = trace_outlines(numbered == number)
        fill_rings([outer, *holes], mask.shape).paste(filled)
        fill_polygon(join_holes(outer, holes).astype(float), mask.shape).paste(joined)
    assert np.array_equal(filled, mask)
    assert np.array_equal(joined, mask)
