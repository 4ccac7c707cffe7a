"""Arrays on disk: read back, damaged, absent packages."""

from pathlib import Path

import numpy as np
import pytest

from guidino_cli.data.volumes.stored import open_array, save_array
from guidino_cli.errors import DataError

_VALUES = np.random.default_rng(0).integers(-1000, 1000, (1, 9, 70, 66)).astype(np.int16)


@pytest.mark.parametrize("name", ["a.npy", "a.b2nd"])
def test_a_part_of_an_array_is_read_back(tmp_path: Path, name: str) -> None:
    if name.endswith("b2nd"):
        pytest.importorskip("blosc2")
    save_array(tmp_path / name, _VALUES.transpose(0, 1, 3, 2))
    array = open_array(tmp_path / name)
    assert array.shape == (1, 9, 66, 70)
    assert array.dtype == np.int16
    assert np.array_equal(np.asarray(array[0, 3]), _VALUES[0, 3].T)
    assert np.array_equal(np.asarray(array[0, 2:5, 10:40, 7:9]), _VALUES.transpose(0, 1, 3, 2)[0, 2:5, 10:40, 7:9])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_array_is_mapped_and_not_read(tmp_path: Path) -> None:
    save_array(tmp_path / "a.npy", _VALUES)
    assert isinstance(open_array(tmp_path / "a.npy"), np.memmap)


@pytest.mark.parametrize("name", ["a.npy", "a.b2nd"])
def test_a_damaged_array_is_named(tmp_path: Path, name: str) -> None:
    if name.endswith("b2nd"):
        pytest.importorskip("blosc2")
    save_array(tmp_path / name, _VALUES)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:40])
    with pytest.raises(DataError, match=rf"{name}: .*run `guidino prepare` again"):
        open_array(tmp_path / name)


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.npy: no such file; run `guidino prepare` again"):
        open_array(tmp_path / "a.npy")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy"):
        open_array(tmp_path / "a.npy")
