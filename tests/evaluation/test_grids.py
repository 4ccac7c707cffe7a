"""Alignment of volumes: exact reorientation, errors for other grids, resampling on request."""

from itertools import permutations, product

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from guidino_cli.errors import DataError
from guidino_cli.evaluation.grids import align_to_truth, resize_nearest
from guidino_cli.evaluation.masks import Mask

AFFINE = np.array([[-0.8, 0, 0, 90], [0, 0.5, 0, -40], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])


def volume(affine: np.ndarray = AFFINE, labels: np.ndarray | None = None) -> Mask:
    labels = np.random.default_rng(0).integers(0, 4, (5, 6, 7)).astype(np.uint8) if labels is None else labels
    return Mask(labels, affine=affine)


def saved_as(mask: Mask, codes: tuple[str, ...]) -> Mask:
    """The same voxels as another program would store them."""
    assert mask.affine is not None
    axes = ornt_transform(io_orientation(mask.affine), axcodes2ornt(codes))
    affine = mask.affine @ inv_ornt_aff(axes, mask.labels.shape)
    return Mask(np.ascontiguousarray(apply_orientation(mask.labels, axes)), affine=affine)


ORIENTATIONS = [codes for order in permutations(("RL", "AP", "SI")) for codes in product(*order)]


@pytest.mark.parametrize("codes", ORIENTATIONS, ids="".join)
def test_every_permutation_and_flip_of_axes_is_undone_exactly(codes: tuple[str, ...]) -> None:
    truth = volume()
    found, note = align_to_truth(saved_as(truth, codes), truth, resample=False)
    np.testing.assert_array_equal(found.labels, truth.labels)
    assert note == ("" if codes == ("L", "A", "S") else f"reoriented from {''.join(codes)} to LAS, no value changed")


def test_an_oblique_volume_is_reoriented() -> None:
    angle = np.radians(20)
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    truth = volume(tilt @ AFFINE)
    stored = saved_as(volume(), ("A", "S", "R"))
    found, _ = align_to_truth(Mask(stored.labels, affine=tilt @ stored.affine), truth, resample=False)
    np.testing.assert_array_equal(found.labels, truth.labels)


def test_instances_are_reoriented_with_the_labels() -> None:
    truth = volume()
    stored = saved_as(truth, ("I", "R", "P"))
    found, _ = align_to_truth(
        Mask(stored.labels, affine=stored.affine, instances=stored.labels * 100), truth, resample=False
    )
    np.testing.assert_array_equal(found.instances, truth.labels * 100)


def test_a_slice_stored_along_another_axis_is_reoriented() -> None:
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    truth = Mask(labels, affine=np.eye(4))
    stored = Mask(labels.T.reshape(4, 1, 3), affine=np.eye(4)[:, [1, 2, 0, 3]])
    found, _ = align_to_truth(stored, truth, resample=False)
    np.testing.assert_array_equal(found.labels, labels)


def test_single_precision_headers_give_the_same_grid() -> None:
    truth = volume()
    found, note = align_to_truth(volume(AFFINE.astype(np.float32).astype(np.float64) + 1e-5), truth, resample=False)
    assert (note, found.labels is not None) == ("", True)


def moved(*, shift: float = 0.0, scale: float = 1.0, degrees: float = 0.0) -> np.ndarray:
    angle, affine = np.radians(degrees), AFFINE.copy()
    affine[:3, :3] = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) @ (
        affine[:3, :3] * [1, 1, scale]
    )
    affine[0, 3] += shift
    return affine


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (moved(shift=0.8), r"shifted by 0\.8 mm \(0\.8, 0, 0\)"),
        (moved(degrees=5), r"rotated by 5 degrees"),
        (moved(scale=2), r"5x6x7 of 0\.8x0\.5x5 mm, the truth's 5x6x7 of 0\.8x0\.5x2\.5 mm"),
    ],
)
def test_another_grid_is_an_error_that_describes_the_difference(affine: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        align_to_truth(volume(affine), volume(), resample=False)


def test_the_shift_of_a_reoriented_volume_is_detected() -> None:
    stored = saved_as(volume(moved(shift=0.8)), ("R", "P", "S"))
    with pytest.raises(DataError, match=r"shifted by 0\.8 mm"):
        align_to_truth(stored, volume(), resample=False)


def test_resampling_uses_the_affines() -> None:
    """A prediction cut out of the truth's grid, at half the spacing along the last axis: each voxel twice."""
    truth = volume(np.eye(4))
    part = truth.labels[1:4, 2:6].repeat(2, axis=2)
    affine = np.array([[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, 0.5, -0.25], [0, 0, 0, 1.0]])
    found, note = align_to_truth(Mask(part, affine=affine), truth, resample=True)
    expected = np.zeros_like(truth.labels)
    expected[1:4, 2:6] = truth.labels[1:4, 2:6]
    np.testing.assert_array_equal(found.labels, expected)
    assert "resampled by the nearest voxel" in note


def test_wrong_headers_can_be_ignored() -> None:
    found, note = align_to_truth(volume(np.eye(4)), volume(), resample=False, ignore_headers=True)
    assert note == "headers ignored, though they place it elsewhere"
    np.testing.assert_array_equal(found.labels, volume().labels)


def test_a_singular_affine_is_an_error() -> None:
    with pytest.raises(DataError, match="singular"):
        align_to_truth(volume(np.diag([1.0, 0, 1, 1])), volume(), resample=False)


def test_images_of_another_size_are_an_error_with_both_sizes() -> None:
    with pytest.raises(DataError, match=r"is 4x3 .*, the truth 3x4 .*turned by 90 degrees"):
        align_to_truth(Mask(np.zeros((3, 4))), Mask(np.zeros((4, 3))), resample=False)


def test_nearest_takes_the_pixel_that_contains_the_new_centre() -> None:
    assert resize_nearest(np.arange(6)[None], (1, 3)).tolist() == [[1, 3, 5]]
    assert resize_nearest(np.arange(2)[None], (2, 4)).tolist() == [[0, 0, 1, 1]] * 2
