"""Slices, slabs and patches of stored volumes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guidino_cli.data.volumes.intensities import Intensity
from guidino_cli.data.volumes.network_views import (
    from_network_order,
    read_patch,
    read_slab,
    read_voxels,
    to_network_order,
)
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.data.volumes.stored import open_array, save_array
from guidino_cli.types import ChannelStatistics

STATISTICS = (ChannelStatistics(0, 119, 59.5, 34.6, 59.5, 0, 119),)
ALONG_Z = VolumePreprocessing(("CT",), (None, None, None), STATISTICS, (Intensity("window", ((0.0, 100.0),)),))
ALONG_Y, ALONG_X = replace(ALONG_Z, slice_axis=1), replace(ALONG_Z, slice_axis=2)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    """(1, 4, 5, 6) whose values are 0 to 119 in the order of the array."""
    return np.arange(120, dtype=np.int16).reshape(1, 4, 5, 6)


def test_a_slice_along_z_is_normalised(values: np.ndarray) -> None:
    found = read_slab(values, STATISTICS, 2, ALONG_Z)
    assert found.shape == (1, 5, 6)
    assert found.dtype == np.float32
    # Slice 2 holds 60 to 89, and the window is 0 to 100.
    assert found[0, 0, 0] == pytest.approx(0.6)
    assert found[0, 4, 5] == pytest.approx(0.89)


def test_a_slice_along_y_has_rows_along_z_and_columns_along_x(values: np.ndarray) -> None:
    found = read_slab(values, STATISTICS, 1, ALONG_Y)
    assert found.shape == (1, 4, 6)
    assert found[0, 2, 3] == pytest.approx(0.69)  # z 2, y 1, x 3: 60 + 6 + 3.


def test_a_slab_at_the_edge_repeats_the_first_slice(values: np.ndarray) -> None:
    found = read_slab(values, STATISTICS, 0, ALONG_Z, slab=3)
    np.testing.assert_allclose(found[:, 0, 0], [0.0, 0.0, 0.3])


def test_a_slab_of_five_at_the_other_end_repeats_the_last_slice_twice(values: np.ndarray) -> None:
    found = read_slab(values, STATISTICS, 3, ALONG_Z, slab=5)
    np.testing.assert_allclose(found[:, 0, 0], [0.3, 0.6, 0.9, 0.9, 0.9], rtol=1e-6)


def test_channels_of_a_slab_are_together_slice_by_slice() -> None:
    pair = np.stack([np.full((3, 2, 2), 10), np.full((3, 2, 2), 50)]) + np.arange(3)[:, None, None]
    window = Intensity("window", ((0.0, 100.0),))
    two = VolumePreprocessing(("CT", "PT"), (None, None, None), STATISTICS * 2, (window, window))
    found = read_slab(pair, STATISTICS * 2, 1, two, slab=3)
    np.testing.assert_allclose(found[:, 0, 0], [0.1, 0.5, 0.11, 0.51, 0.12, 0.52], rtol=1e-6)


@pytest.mark.parametrize(
    ("preprocessing", "expected"), [(ALONG_Z, (4, 5, 6)), (ALONG_Y, (5, 4, 6)), (ALONG_X, (6, 4, 5))]
)
def test_network_order_is_undone(
    values: np.ndarray, preprocessing: VolumePreprocessing, expected: tuple[int, int, int]
) -> None:
    size = to_network_order(values.shape[1:], preprocessing)
    assert size == expected
    everything = read_voxels(values, (0, 0, 0), size, preprocessing)
    np.testing.assert_array_equal(from_network_order(everything, preprocessing), values)


@pytest.mark.parametrize("preprocessing", [ALONG_Z, ALONG_Y, ALONG_X])
def test_a_patch_of_one_slice_is_that_slice(values: np.ndarray, preprocessing: VolumePreprocessing) -> None:
    _, height, width = to_network_order(values.shape[1:], preprocessing)
    patch = read_patch(values, STATISTICS, (2, 0, 0), (1, height, width), preprocessing)
    np.testing.assert_array_equal(patch[:, 0], read_slab(values, STATISTICS, 2, preprocessing))


def test_a_patch_that_reaches_beyond_the_volume_repeats_its_edge(values: np.ndarray) -> None:
    labels = values[0]
    found = read_voxels(labels, (-1, 0, 4), (3, 1, 4), ALONG_Z)
    np.testing.assert_array_equal(found[:, 0], [[4, 5, 5, 5], [4, 5, 5, 5], [34, 35, 35, 35]])


def test_a_patch_wholly_outside_is_the_nearest_voxels(values: np.ndarray) -> None:
    found = read_voxels(values[0], (10, 0, 0), (2, 1, 2), ALONG_Z)
    np.testing.assert_array_equal(found[:, 0], [[90, 91], [90, 91]])


@pytest.mark.parametrize("suffix", [".npy", ".b2nd"])
def test_stored_arrays_are_read_like_arrays_in_memory(values: np.ndarray, tmp_path: Path, suffix: str) -> None:
    if suffix == ".b2nd":
        pytest.importorskip("blosc2")
    save_array(tmp_path / f"a{suffix}", values)
    stored = open_array(tmp_path / f"a{suffix}")
    for preprocessing in (ALONG_Z, ALONG_Y, ALONG_X):
        expected = read_slab(values, STATISTICS, 3, preprocessing, slab=3)
        np.testing.assert_array_equal(read_slab(stored, STATISTICS, 3, preprocessing, slab=3), expected)
        patch = read_patch(stored, STATISTICS, (-1, 2, 2), (3, 3, 3), preprocessing)
        np.testing.assert_array_equal(patch, read_patch(values, STATISTICS, (-1, 2, 2), (3, 3, 3), preprocessing))
