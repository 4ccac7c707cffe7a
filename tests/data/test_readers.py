"""Readers of all formats: mask values as stored, regions, and round trips."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.masks.values import read_with_histogram
from guidino_cli.data.readers import open_regions, read, read_labels, write
from guidino_cli.errors import DataError
from guidino_cli.types import Geometry


def test_a_palette_gives_indices_and_not_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png")[0].tolist() == [[0, 1, 2]]


def test_an_inverted_black_and_white_palette_is_read_as_seen(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "a.gif")
    assert read_labels(tmp_path / "a.gif")[0].astype(bool).tolist() == [[True, False]]


def test_three_equal_channels_are_one(tmp_path: Path) -> None:
    grey = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    Image.fromarray(np.stack([grey] * 3, axis=2)).save(tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png")[0].tolist() == grey.tolist()


def test_alpha_is_dropped_unless_it_alone_holds_the_mask(tmp_path: Path) -> None:
    mask = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    opaque, black = np.full_like(mask, 255), np.zeros_like(mask)
    Image.fromarray(np.stack([mask, mask, mask, opaque], axis=2)).save(tmp_path / "in_colour.png")
    Image.fromarray(np.stack([black, black, black, mask], axis=2)).save(tmp_path / "in_alpha.png")
    Image.fromarray(np.stack([black, black, black, opaque], axis=2)).save(tmp_path / "empty.png")
    assert read_labels(tmp_path / "in_colour.png")[0].tolist() == mask.tolist()
    assert read_labels(tmp_path / "in_alpha.png")[0].tolist() == mask.tolist()
    assert not read_labels(tmp_path / "empty.png")[0].any()


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    values = np.array([[0, 300], [65535, 1]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png")[0].tolist() == values.tolist()


def test_the_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((2, 5), dtype=np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert read_labels(tmp_path / "a.png")[0].shape == (5, 2)


def test_an_array_file_is_read_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 2]], dtype=np.int64))
    assert read_labels(tmp_path / "a.npy")[0].tolist() == [[0, 2]]


def test_a_three_dimensional_array_is_refused_with_its_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 6)))
    with pytest.raises(DataError, match=r"a\.npy: expected a two-dimensional array.*\(4, 5, 6\)"):
        read_labels(tmp_path / "a.npy")[0]


def test_a_truncated_file_is_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.png"):
        read_labels(tmp_path / "a.png")[0]


# --- All formats


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".npy", ".npz", ".nii", ".nii.gz"])
def test_labels_are_read_as_they_were_written(suffix: str, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 5, (6, 9)).astype(np.uint8)
    geometry = Geometry("a", (6, 9), (0.5, 2.0), "mm", np.diag([-0.5, 2.0, 1.0, 1.0]))
    write(tmp_path / f"a{suffix}", labels, geometry)
    read_back, _ = read_labels(tmp_path / f"a{suffix}")
    assert read_back.dtype == labels.dtype
    assert np.array_equal(read_back, labels)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_volume_keeps_its_spacing_and_position(suffix: str, tmp_path: Path) -> None:
    affine = np.array([[0.0, 0, -3, 10], [0.5, 0, 0, -20], [0, 2, 0, 30], [0, 0, 0, 1]])
    labels = np.random.default_rng(0).integers(0, 5, (3, 4, 5)).astype(np.uint8)
    write(tmp_path / f"a{suffix}", labels, Geometry("a", labels.shape, (0.5, 2.0, 3.0), "mm", affine))
    read_back, geometry = read_labels(tmp_path / f"a{suffix}")
    assert np.array_equal(read_back, labels)
    assert geometry.shape == (3, 4, 5)
    assert geometry.spacing_mm == (0.5, 2.0, 3.0)
    assert geometry.affine is not None
    np.testing.assert_array_equal(geometry.affine, affine)


def test_an_image_states_no_physical_size(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.zeros((6, 9), dtype=np.uint8), Geometry.of_pixels("a", (6, 9)))
    _, geometry = read(tmp_path / "a.png")
    assert (geometry.size_hw, geometry.spacing, geometry.unit) == ((6, 9), (1.0, 1.0), "px")
    assert geometry.affine is geometry.spacing_mm is None


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".gif"])
def test_a_format_that_may_change_labels_is_not_written(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"may change the values of a mask, expected \.png"):
        write(tmp_path / f"a{suffix}", np.zeros((2, 2), dtype=np.uint8), Geometry.of_pixels("a", (2, 2)))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy", ".npz", ".nii", ".nii.gz"])
def test_regions_are_parts_of_what_is_read_as_a_whole(suffix: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    write(path, values, Geometry("a", (20, 30), (1.0, 1.0), "mm", np.eye(4)))
    whole, geometry = read(path)
    regions = open_regions(path)
    assert regions.geometry.shape == geometry.shape
    assert np.array_equal(regions.read_all(), whole)
    assert np.array_equal(regions.read_region(slice(2, 5), slice(7, 9)), whole[2:5, 7:9])
    window = regions.read_window((15, 25), 8)
    assert np.array_equal(window[:5, :5], whole[15:, 25:])
    assert window[5:].max() == window[:, 5:].max() == 0


def test_a_scaled_volume_is_scaled_region_by_region(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -3.0)
    nibabel.save(image, tmp_path / "a.nii")
    region = open_regions(tmp_path / "a.nii").read_region(slice(1, 2), slice(0, 3), slice(2, 3))
    assert region.dtype == np.float32
    assert region.ravel().tolist() == [4.0, 6.0, 8.0]


def test_a_file_of_an_unknown_suffix_is_read_by_its_content(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 3), 7, dtype=np.uint8)).save(tmp_path / "a.mask", format="png")
    assert read_labels(tmp_path / "a.mask")[0].tolist() == [[7, 7, 7], [7, 7, 7]]


def test_a_volume_is_refused_where_a_two_dimensional_mask_is_expected(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), dtype=np.uint8), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"a\.nii: is a volume of 3 axes"):
        read_with_histogram(tmp_path / "a.nii")


def test_the_grid_of_a_colour_array_has_no_channels(tmp_path: Path) -> None:
    colours = np.zeros((4, 5, 3), dtype=np.uint8)
    colours[..., 1] = 7
    np.save(tmp_path / "a.npy", colours)
    values, geometry = read_labels(tmp_path / "a.npy")
    assert (values.shape, geometry.shape, geometry.spacing) == ((4, 5, 3), (4, 5), (1.0, 1.0))
