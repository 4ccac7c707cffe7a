"""A volume on the grid of another one: whole voxels count, what lies beyond them is background."""

from pathlib import Path

import numpy as np
import pytest

from guidino_cli.data.volumes.placing import resample_to_grid
from guidino_cli.errors import DataError


def scaling(x: float, y: float, z: float, origin: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    affine = np.diag([x, y, z, 1.0])
    affine[:3, 3] = origin
    return affine


def place(
    values: np.ndarray, affine: np.ndarray, target: np.ndarray, shape: tuple[int, int, int], *, nearest: bool = False
) -> np.ndarray:
    return resample_to_grid(values, affine, target, shape, path=Path("a.nii.gz"), outside="b.nii.gz", nearest=nearest)


def column(values: list[float], dtype: type = np.float32) -> np.ndarray:
    """Slices of one voxel each."""
    return np.array(values, dtype=dtype)[:, None, None]


# Two slices of 10 mm with centres at 0 and 10 mm fill -5 to 15 mm; the other grid has slices at -8, -6, ... 18 mm.
THICK, FINE = scaling(1, 1, 10), scaling(1, 1, 2, (0, 0, -8))
DEPTHS = np.arange(-8, 19, 2)


def test_half_a_thick_slice_beyond_the_last_centre_keeps_the_value_of_the_border() -> None:
    placed = place(column([10, 20]), THICK, FINE, (14, 1, 1))[:, 0, 0]
    # -8 and -6 lie before the first slice, 16 and 18 after the last one: the smallest value.
    between = [10.0 + depth for depth in (0, 2, 4, 6, 8, 10)]
    assert placed.tolist() == pytest.approx([10, 10, 10, 10, *between, 20, 20, 10, 10])


def test_labels_fill_the_whole_thickness_of_their_slices_and_no_more() -> None:
    placed = place(column([1, 2], np.uint8), THICK, FINE, (14, 1, 1), nearest=True)[:, 0, 0]
    assert placed.dtype == np.uint8
    # 1 from -5 to 5 mm, 2 from 5 to 15 mm.
    assert dict(zip(DEPTHS.tolist(), placed.tolist(), strict=True)) == {
        **dict.fromkeys((-8, -6), 0), **dict.fromkeys((-4, -2, 0, 2, 4), 1),
        **dict.fromkeys((6, 8, 10, 12, 14), 2), **dict.fromkeys((16, 18), 0),
    }  # fmt: skip


def test_faces_of_the_border_belong_to_the_volume_on_both_sides() -> None:
    # Centres at -6, -5, -4, ... 14, 15, 16 mm, upwards and downwards.
    for step, start in ((1, -6), (-1, 16)):
        placed = place(column([1, 1], np.uint8), THICK, scaling(1, 1, step, (0, 0, start)), (23, 1, 1), nearest=True)
        assert placed[:, 0, 0].tolist() == [0, *[1] * 21, 0]


def test_a_single_slice_fills_its_thickness() -> None:
    placed = place(column([7], np.uint8), scaling(1, 1, 5), scaling(1, 1, 1, (0, 0, -4)), (9, 1, 1), nearest=True)
    assert placed[:, 0, 0].tolist() == [0, 0, 7, 7, 7, 7, 7, 0, 0]


def test_a_grid_beyond_the_faces_is_refused_one_within_half_a_voxel_is_not() -> None:
    assert place(column([3, 4]), THICK, scaling(1, 1, 1, (0, 0, 13)), (1, 1, 1)).tolist() == [[[4]]]
    with pytest.raises(DataError, match="lies outside b"):
        place(column([3, 4]), THICK, scaling(1, 1, 1, (0, 0, 16)), (1, 1, 1))


@pytest.mark.parametrize("nearest", [False, True], ids=["linear", "nearest"])
def test_an_oblique_grid_gets_what_simpleitk_puts_there(nearest: bool) -> None:
    sitk = pytest.importorskip("SimpleITK")
    generator = np.random.default_rng(0)
    values = generator.integers(1, 200, size=(5, 14, 12)).astype(np.uint8 if nearest else np.float32)
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = scaling(1.5, 1.5, 6, (-3, 2, 1))
    target = scaling(1, 1, 1.3, (-9.1, -3.2, -4.4))
    target[:3, :3] = turn @ target[:3, :3]
    shape = (27, 25, 24)
    background = 0.0 if nearest else float(values.min())
    image, reference = sitk.GetImageFromArray(values), sitk.Image(*map(int, shape[::-1]), sitk.sitkUInt8)
    for item, matrix in ((image, affine), (reference, target)):
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        item.SetSpacing(spacing.tolist())
        item.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
        item.SetOrigin(matrix[:3, 3].tolist())
    method = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    expected = sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), method, background))
    placed = place(values, affine, target, shape, nearest=nearest)
    assert 0.2 < (expected == background).mean() < 0.8
    if nearest:
        assert np.array_equal(placed, expected)
    else:
        assert placed == pytest.approx(expected, abs=1e-3)
