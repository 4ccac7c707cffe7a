"""NSD and the to-mask definition: values counted by hand, and a distance transform as the oracle."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt

from guidino_cli.metrics.surface import (
    average_symmetric_surface_distance,
    hausdorff95,
    normalized_surface_dice,
    surface_distances,
)


def box(rows: slice, columns: slice, shape: tuple[int, ...] = (40, 40)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[rows, columns] = True
    return mask


def nsd(prediction: np.ndarray, truth: np.ndarray, tolerance: float, spacing: tuple[float, ...] | None = None) -> float:
    return normalized_surface_dice(surface_distances(prediction, truth, spacing or (1.0,) * truth.ndim), tolerance)


SQUARE = box(slice(10, 20), slice(10, 20))  # 36 border pixels


@pytest.mark.parametrize(
    ("shift", "tolerance", "share"),
    [
        (0, 0, 1.0),
        (1, 0, 18 / 36),  # nine rows of both sides lie on both borders
        (1, 1, 1.0),
        (3, 0, 14 / 36),  # seven rows of both sides
        (3, 1, 18 / 36),  # and the pixel at each of the four ends of what is shared
        (3, 2, 22 / 36),
        (3, 2.99, 22 / 36),  # a corner is 3 away, the middle of an edge too
        (3, 3, 1.0),
    ],
)
def test_surface_dice_of_a_shifted_square(shift: int, tolerance: float, share: float) -> None:
    assert nsd(np.roll(SQUARE, shift, axis=0), SQUARE, tolerance) == pytest.approx(share)
    assert nsd(SQUARE, np.roll(SQUARE, shift, axis=1), tolerance) == pytest.approx(share)


@pytest.mark.parametrize(("tolerance", "share"), [(0, 6 / 44), (1, 8 / 44), (4.99, 14 / 44), (5, 1.0)])
def test_the_tolerance_is_in_millimetres_of_each_axis(tolerance: float, share: float) -> None:
    """4 x 20 pixels of 5 x 1 mm, one row off: 44 border pixels each."""
    truth = box(slice(8, 12), slice(10, 30))
    assert nsd(np.roll(truth, 1, axis=0), truth, tolerance, (5.0, 1.0)) == pytest.approx(share)


def test_voxels_count_by_their_spacing() -> None:
    truth, prediction = np.zeros((2, 5, 5, 5), dtype=bool)
    truth[0, 0, 0], prediction[1, 2, 2] = True, True
    assert [nsd(prediction, truth, tolerance, (2.0, 0.5, 1.0)) for tolerance in (2.99, 3.0)] == [0.0, 1.0]


def test_a_line_beside_the_true_line_is_wrong_by_one_pixel() -> None:
    """DeepMind's surface-distance says 0.5: it measures between the two contours around each line, which touch."""
    line = box(slice(20, 21), slice(5, 35))
    assert [nsd(np.roll(line, 1, axis=0), line, tolerance) for tolerance in (0.5, 1)] == [0.0, 1.0]


def test_the_image_boundary_is_an_edge_of_both_masks() -> None:
    """Rows 0..1 against rows 0..3 of a 10 x 10 image: all 20 pixels of the one, 24 of the other are border."""
    found = nsd(box(slice(0, 2), slice(0, 10), (10, 10)), box(slice(0, 4), slice(0, 10), (10, 10)), 0)
    # Shared: row 0 and both ends of row 1, so 12 pixels of each, of 20 and 24.
    assert found == pytest.approx(24 / (20 + 24))


@pytest.mark.parametrize("seed", range(3))
def test_distances_to_the_mask_are_those_of_a_distance_transform(seed: int) -> None:
    """As the GuiDINO authors compute HD95 and what they call ASD, the mean of both directions pooled."""
    generator = np.random.default_rng(seed)
    for _ in range(30):
        spacing = tuple(generator.choice([1.0, 0.5, 2.5], 2))
        masks = [generator.random((14, 17)) < generator.choice([0.05, 0.5, 0.9]) for _ in range(2)]
        to_mask = [
            distance_transform_edt(~other, spacing)[mask ^ binary_erosion(mask)] for mask, other in (masks, masks[::-1])
        ]
        pooled = np.concatenate(to_mask)
        found = surface_distances(*masks, spacing, inside_is_zero=True)
        assert hausdorff95(found) == pytest.approx(np.percentile(pooled, 95))
        assert average_symmetric_surface_distance(found) == pytest.approx(pooled.mean())
