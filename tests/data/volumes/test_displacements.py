"""Displacement fields in NIfTI files: read by nibabel, and applied by SimpleITK as an independent program would."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from guidino_cli.data.volumes.canonical import turn
from guidino_cli.data.volumes.grid import Grid
from guidino_cli.data.volumes.reading import read_source
from guidino_cli.data.volumes.writing import write_displacements
from guidino_cli.registration.fields import warp_image
from guidino_cli.types import VolumeSource


def grid_of(path: Path) -> tuple[np.ndarray, Grid]:
    source = VolumeSource(path)
    volume = read_source(source)
    grid = Grid.of(volume, source)
    return turn(volume.values, grid.to_canonical), grid


# Axes to the right, up and to the back; and tilted about the first one.
TURNED = np.array([[1.5, 0, 0, -20], [0, 0, -2.0, 31], [0, 0.8, 0, 7], [0, 0, 0, 1]])
TILT = np.array([[1, 0, 0, 0], [0, np.cos(0.2), -np.sin(0.2), 0], [0, np.sin(0.2), np.cos(0.2), 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("affine", [TURNED, TILT @ TURNED], ids=["turned", "tilted"])
def test_simpleitk_warps_by_the_file_as_we_do(affine: np.ndarray, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    generator = np.random.default_rng(0)
    stored = gaussian_filter(generator.normal(size=(14, 18, 16)), 1.5).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / "moving.nii.gz")
    values, grid = grid_of(tmp_path / "moving.nii.gz")
    field = np.stack([gaussian_filter(generator.normal(size=grid.shape), 3) * 25 for _ in range(3)]).astype(np.float32)
    write_displacements(tmp_path / "field.nii.gz", field, grid)

    moving = sitk.ReadImage(str(tmp_path / "moving.nii.gz"), sitk.sitkFloat64)
    transform = sitk.DisplacementFieldTransform(sitk.ReadImage(str(tmp_path / "field.nii.gz"), sitk.sitkVectorFloat64))
    expected = sitk.GetArrayFromImage(sitk.Resample(moving, moving, transform, sitk.sitkLinear, float("nan"))).T
    own = warp_image(values[None], field)[0]
    canonical = turn(expected, grid.to_canonical)
    # Up to half a voxel beyond the border, ITK repeats the last one.
    places, last = np.indices(grid.shape) + field, np.array(grid.shape).reshape(3, 1, 1, 1) - 1
    inside = ((places >= 0) & (places <= last)).all(axis=0)
    assert inside.mean() > 0.5
    assert np.abs(own - canonical)[inside].max() < 1e-3
    assert np.abs(values - canonical)[inside].max() > 0.1


def test_vectors_are_millimetres_to_the_right_the_front_and_up(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), dtype=np.int16), TURNED), tmp_path / "image.nii.gz")
    _, grid = grid_of(tmp_path / "image.nii.gz")
    field = np.zeros((3, *grid.shape), dtype=np.float32)
    # Canonical axes are up, to the back and to the left: one voxel each of 0.8, 2 and 1.5 mm.
    field[0], field[1], field[2] = 1, 1, 1
    write_displacements(tmp_path / "field.nii", field, grid)
    image = nibabel.load(tmp_path / "field.nii")
    assert image.shape == (3, 4, 5, 1, 3)
    assert int(image.header["intent_code"]) == 1006
    assert np.asarray(image.dataobj)[1, 2, 3, 0].tolist() == pytest.approx([-1.5, -2.0, 0.8])
    assert np.allclose(image.affine, TURNED)


def test_vectors_of_a_picture_are_pixels_along_columns_and_rows(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(tmp_path / "image.png")
    _, grid = grid_of(tmp_path / "image.png")
    field = np.zeros((3, 1, 6, 8), dtype=np.float32)
    field[1, 0, 2, 5], field[2, 0, 2, 5] = 3, -4
    write_displacements(tmp_path / "field.nii.gz", field, grid)
    image = nibabel.load(tmp_path / "field.nii.gz")
    assert image.shape == (8, 6, 1, 1, 3)
    assert np.asarray(image.dataobj)[5, 2, 0, 0].tolist() == [-4, 3, 0]
    assert np.allclose(image.affine, np.eye(4))


def test_a_field_of_another_size_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(tmp_path / "image.png")
    with pytest.raises(ValueError, match="for a grid"):
        write_displacements(
            tmp_path / "field.nii.gz", np.zeros((3, 1, 8, 6), dtype=np.float32), grid_of(tmp_path / "image.png")[1]
        )
