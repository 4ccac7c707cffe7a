"""The box around the voxels of a volume that are not zero."""

from pathlib import Path

import numpy as np
import pytest

from guidino_cli.data.volumes.cropping import nonzero_box
from guidino_cli.data.volumes.stored import open_array, save_array


def test_the_box_holds_the_voxels_of_all_channels() -> None:
    """Slices 2 to 5, rows 1 to 3, column 4 alone."""
    values = np.zeros((2, 8, 6, 5), dtype=np.int16)
    values[0, 2, 3, 4] = 7
    values[1, 5, 1, 4] = -7
    assert nonzero_box(values) == (4, 3, 1)


def test_an_empty_volume_is_kept_whole() -> None:
    assert nonzero_box(np.zeros((1, 3, 4, 5))) == (3, 4, 5)


def test_a_volume_without_zeros_is_kept_whole() -> None:
    assert nonzero_box(np.full((1, 3, 4, 5), -1000)) == (3, 4, 5)


@pytest.mark.parametrize("suffix", [".npy", ".b2nd"])
def test_stored_volumes_are_read_from_disk(suffix: str, tmp_path: Path) -> None:
    if suffix == ".b2nd":
        pytest.importorskip("blosc2")
    values = np.zeros((1, 4, 5, 6), dtype=np.float32)
    values[0, 1:3, 0, 2:] = 0.5
    save_array(tmp_path / f"a{suffix}", values)
    assert nonzero_box(open_array(tmp_path / f"a{suffix}")) == (2, 1, 4)
