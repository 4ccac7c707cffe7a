"""Regions of images hold the same pixels as the whole image."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from guidino_cli.data import regions
from guidino_cli.data.images import read_image
from guidino_cli.data.readers import open_regions
from guidino_cli.data.regions import read_size
from guidino_cli.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 255, (70, 90, 3)).astype(np.uint8)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deflated": {"compression": "zlib"},
    "tiled": {"compression": "zlib", "tile": (32, 32)},
    "predicted": {"compression": "zlib", "predictor": True},
}


@pytest.mark.parametrize("channels", ["grey", "rgb", "rgba"])
@pytest.mark.parametrize("name", OPTIONS)
def test_windows_of_a_tiff_are_those_of_the_whole(name: str, channels: str, tmp_path: Path) -> None:
    path, alpha = tmp_path / "a.tif", np.full((70, 90, 1), 255, np.uint8)
    pixels = {"grey": PIXELS[..., 0], "rgb": PIXELS, "rgba": np.concatenate([PIXELS, alpha], axis=2)}[channels]
    kind = "minisblack" if channels == "grey" else "rgb"
    tifffile.imwrite(path, pixels, photometric=kind, **OPTIONS[name])
    assert np.array_equal(open_regions(path).read_all(), read_image(path)[0])


def test_a_window_over_the_edge_is_filled_with_zeros(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb")
    window = open_regions(tmp_path / "a.tif").read_window((60, 80), 32)
    assert np.array_equal(window[:10, :10], PIXELS[60:, 80:])
    assert window[10:].max() == window[:, 10:].max() == 0


@pytest.mark.parametrize("name", ["a.png", "a.bmp"])
def test_windows_of_other_files_are_those_of_the_whole(name: str, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / name)
    assert np.array_equal(open_regions(tmp_path / name).read_window((10, 20), 40), PIXELS[10:50, 20:60])


def test_a_plain_tiff_stays_on_disk(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb")
    assert isinstance(regions._memmap_tiff(tmp_path / "a.tif"), np.memmap)


def test_sixteen_bit_regions_are_scaled_as_the_whole_image(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 4000, (40, 50)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", deep)
    assert np.array_equal(open_regions(tmp_path / "a.tif").read_all(), read_image(tmp_path / "a.tif")[0])


def test_an_inverted_tiff_is_read_like_other_images(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[..., 0], photometric="miniswhite")
    assert np.array_equal(open_regions(tmp_path / "a.tif").read_all(), read_image(tmp_path / "a.tif")[0])


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_the_size_is_known_without_decoding(name: str, tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / name)
    assert read_size(tmp_path / name) == (70, 90)


def test_an_image_above_the_limit_is_refused_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    monkeypatch.setenv("GUIDINO_MAX_PIXELS", "1000")
    with pytest.raises(DataError, match="save it as an 8-bit grey or RGB TIFF"):
        read_size(tmp_path / "a.png")


def test_a_file_that_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("no image")
    with pytest.raises(DataError, match=r"a\.tif"):
        read_size(tmp_path / "a.tif")


@pytest.mark.skipif(sys.platform != "linux", reason="pages are let go of on Linux only")
@pytest.mark.parametrize("name", ["plain", "deflated"])
def test_windows_that_were_read_do_not_stay_in_memory(name: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 4096), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.tile(pixels, (64, 1)), **OPTIONS[name], photometric="minisblack")
    before = _mapped_kb()
    opened = open_regions(tmp_path / "a.tif")
    for top in range(0, 4096, 64):
        for left in range(0, 4096, 64):
            opened.read_window((top, left), 64)
    # The file has 16 MB.
    assert _mapped_kb() - before < 4096


def _mapped_kb() -> int:
    """Of this process's memory what is pages of files, in KB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssFile:")))


def test_what_a_compressed_tiff_unpacks_to_must_fit_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, compression="zlib", photometric="rgb")

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(DataError, match=r"a\.tif: unpacks to .*No space left on device.*TMPDIR"):
        open_regions(tmp_path / "a.tif")
