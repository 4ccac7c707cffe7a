"""Pixels of polygons, by hand and by pycocotools."""

import numpy as np
import pytest

from guidino_cli.data.label_files.polygons import fill_polygon, fill_rings


def _fill(points: object, size_hw: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size_hw, dtype=bool)
    fill_polygon(np.array(points, dtype=float), size_hw).paste(mask)
    return mask


def test_a_rectangle_on_pixel_borders_has_exactly_its_pixels() -> None:
    expected = np.zeros((6, 8), dtype=bool)
    expected[1:4, 2:7] = True
    assert np.array_equal(_fill([(2, 1), (7, 1), (7, 4), (2, 4)], (6, 8)), expected)


def test_a_hole_is_cut_out_of_its_ring() -> None:
    rings = [np.array([(0, 0), (6, 0), (6, 6), (0, 6)], float), np.array([(2, 2), (4, 2), (4, 4), (2, 4)], float)]
    mask = np.zeros((6, 6), dtype=bool)
    fill_rings(rings, (6, 6)).paste(mask)
    assert mask.sum() == 36 - 4
    assert not mask[2:4, 2:4].any()


def test_a_polygon_around_the_image_fills_it_and_one_beside_it_nothing() -> None:
    assert _fill([(-1e12, -1e12), (1e12, -1e12), (1e12, 1e12), (-1e12, 1e12)], (5, 7)).all()
    assert not _fill([(10, 0), (20, 0), (20, 5)], (5, 7)).any()
    assert not _fill([(-1e9, 0), (-1e8, 0), (-1e9, 5)], (5, 7)).any()


@pytest.mark.parametrize("scale", [1.0, 2.0, 64.0])
def test_pixels_are_those_of_pycocotools(scale: float) -> None:
    oracle = pytest.importorskip("pycocotools.mask", reason="pycocotools, the oracle, is not installed")
    random = np.random.default_rng(0)
    for _ in range(150):
        height, width = (int(side) for side in random.integers(1, 50, 2))
        # Rounded to whole and half pixels, where ties must fall alike; up to half an image outside.
        points = np.round(random.uniform(-0.5, 1.5, (int(random.integers(3, 10)), 2)) * (width, height) * scale) / scale
        encoded = oracle.frPyObjects([points.ravel().tolist()], height, width)[0]
        assert np.array_equal(_fill(points, (height, width)), oracle.decode(encoded).astype(bool)), points.tolist()
