"""Label maps and images among volumes."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from guidino_cli.data.volumes.slices import open_grey_volume
from guidino_cli.preparation.volume_kinds import VolumeContent, inspect_volume


def _inspect(path: Path, values: np.ndarray) -> VolumeContent:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return inspect_volume(open_grey_volume(path))


def _many_labels() -> np.ndarray:
    """100 labels, 1000 to 1099, each a cube of 8 voxels a side in a row of columns."""
    values = np.zeros((80, 80, 8), dtype=np.int16)
    for label in range(100):
        row, column = divmod(label, 10)
        values[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1000 + label
    return values


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint16])
def test_many_labels_in_uniform_areas_are_a_label_map(tmp_path: Path, dtype: type) -> None:
    assert _inspect(tmp_path / "a.nii.gz", _many_labels().astype(dtype)).label_count == 100


def test_as_many_values_without_uniform_areas_are_an_image(tmp_path: Path) -> None:
    values = np.random.default_rng(0).permutation(_many_labels().ravel()).reshape(80, 80, 8)
    assert _inspect(tmp_path / "a.nii.gz", values).label_count is None


def test_probabilities_are_no_label_map(tmp_path: Path) -> None:
    values = np.zeros((8, 8, 8), dtype=np.float32)
    values[:4] = 0.5
    assert _inspect(tmp_path / "a.nii.gz", values).label_count is None


def test_scaled_values_are_judged_not_the_stored_ones(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(512, dtype=np.int16).reshape(8, 8, 8) % 40, np.eye(4))
    image.header.set_slope_inter(0.25, -100.0)
    nibabel.save(image, tmp_path / "a.nii.gz")
    content = inspect_volume(open_grey_volume(tmp_path / "a.nii.gz"))
    assert (content.low, content.high, content.label_count) == (-100.0, 39 * 0.25 - 100, None)


def test_an_inverted_scale_keeps_low_below_high(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(512, dtype=np.int16).reshape(8, 8, 8), np.eye(4))
    image.header.set_slope_inter(-1.0, 0.0)
    nibabel.save(image, tmp_path / "a.nii.gz")
    content = inspect_volume(open_grey_volume(tmp_path / "a.nii.gz"))
    assert (content.low, content.high) == (-511.0, 0.0)


def test_single_negative_voxels_are_no_hounsfield_units(tmp_path: Path) -> None:
    values = np.arange(27_000, dtype=np.int16).reshape(30, 30, 30)
    values[:3, :3, 0] = -200
    assert not _inspect(tmp_path / "mr.nii.gz", values).is_hu
    values[:3] = -200
    assert _inspect(tmp_path / "ct.nii.gz", values).is_hu


def test_a_volume_without_finite_values_is_an_image(tmp_path: Path) -> None:
    assert _inspect(tmp_path / "a.nii", np.full((4, 4, 4), np.nan, dtype=np.float32)).label_count is None
