"""Pictures as volumes of one slice: channels and bits are kept."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from guidino_cli.data.volumes.reading import read_volume, read_volume_labels
from guidino_cli.data.volumes.writing import write_volume_labels
from guidino_cli.errors import DataError
from guidino_cli.types import VolumeSource

_RANDOM = np.random.default_rng(0)


def _png(path: Path, values: np.ndarray) -> VolumeSource:
    Image.fromarray(values).save(path)
    return VolumeSource(path)


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    values = _RANDOM.integers(0, 65536, (5, 7)).astype(np.uint16)
    volume = read_volume([_png(tmp_path / "a.png", values)])
    assert volume.values.shape == (1, 1, 5, 7)
    assert np.array_equal(volume.values[0, 0], values)
    assert volume.grid.geometry.unit == "px"


def test_five_files_are_five_channels(tmp_path: Path) -> None:
    channels = [_RANDOM.integers(0, 256, (5, 7)).astype(np.uint8) for _ in range(5)]
    sources = [_png(tmp_path / f"a_{number:04}.png", values) for number, values in enumerate(channels)]
    assert np.array_equal(read_volume(sources).values[:, 0], np.stack(channels))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_the_bands_of_a_tiff_are_channels(tmp_path: Path, planar: str) -> None:
    values = _RANDOM.integers(0, 65536, (5, 7, 6)).astype(np.uint16)
    stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, planarconfig=planar, photometric="minisblack")
    volume = read_volume([VolumeSource(tmp_path / "a.tif")], channels=6)
    assert np.array_equal(volume.values[:, 0], np.moveaxis(values, -1, 0))


def test_a_photograph_has_three_channels_without_alpha(tmp_path: Path) -> None:
    values = _RANDOM.integers(0, 256, (5, 7, 4)).astype(np.uint8)
    volume = read_volume([_png(tmp_path / "a.png", values)], channels=3)
    assert np.array_equal(volume.values[:, 0], np.moveaxis(values[..., :3], -1, 0))


def test_a_mask_comes_back_as_png(tmp_path: Path) -> None:
    volume = read_volume([_png(tmp_path / "a.png", np.zeros((5, 7), np.uint16))])
    labels = _RANDOM.integers(0, 4, (5, 7)).astype(np.uint8)
    assert np.array_equal(read_volume_labels(_png(tmp_path / "m.png", labels), volume.grid), labels[None])
    write_volume_labels(tmp_path / "out.png", labels[None], volume.grid)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), labels)


def test_masks_of_another_size_or_of_colours_are_refused(tmp_path: Path) -> None:
    volume = read_volume([_png(tmp_path / "a.png", np.zeros((5, 7), np.uint16))])
    with pytest.raises(DataError, match=r"m\.png: is 6x5x1, its volume a\.png is 7x5x1"):
        read_volume_labels(_png(tmp_path / "m.png", np.zeros((5, 6), np.uint8)), volume.grid)
    colours = _RANDOM.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    with pytest.raises(DataError, match=r"m\.png: is a mask of colours"):
        read_volume_labels(_png(tmp_path / "m.png", colours), volume.grid)
