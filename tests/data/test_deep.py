"""Images of more than 8 bits a channel."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile

from guidino_cli.data.deep import rescale_to_uint8
from guidino_cli.data.images import read_deep_values, read_image
from guidino_cli.data.readers import open_regions, read_labels
from guidino_cli.errors import DataError

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def save_png(path: Path, values: np.ndarray) -> Path:
    """Write (H, W, C) uint16 as an unfiltered PNG of 16 bits."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)
    return path


def values_of(channels: int, *, top: int = 65536) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, (20, 30, channels), dtype=np.uint16)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_a_png_of_16_bit_colours_keeps_all_bits(tmp_path: Path, channels: int) -> None:
    values = values_of(channels)
    found = read_deep_values(save_png(tmp_path / "a.png", values))
    assert found is not None
    assert np.array_equal(found, values)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_of_16_bit_colours_keeps_all_bits(tmp_path: Path, order: str, compression: str | None) -> None:
    values = values_of(3)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", byteorder=order, compression=compression)
    found = read_deep_values(tmp_path / "a.tif")
    assert found is not None
    assert np.array_equal(found, values)


def test_a_camera_of_12_bits_gives_the_picture_of_one_of_16_bits(tmp_path: Path) -> None:
    values = values_of(3, top=4096)
    dark, bright = save_png(tmp_path / "a.png", values), save_png(tmp_path / "b.png", values * 16)
    assert np.array_equal(read_image(dark)[0], read_image(bright)[0])
    assert read_image(dark)[0].max() == 255
    assert np.array_equal(open_regions(dark).read_all(), read_image(dark)[0])


def test_a_mask_of_16_bit_colours_keeps_small_indices(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2]], dtype=np.uint16)
    path = save_png(tmp_path / "a.png", np.stack([labels] * 3, axis=2))
    assert read_labels(path)[0].tolist() == [[0, 1, 2]]


def test_a_mask_of_16_bit_colours_is_read_as_8_bits_or_refused(tmp_path: Path) -> None:
    red = np.zeros((1, 2, 3), dtype=np.uint16)
    red[0, 1, 0] = 65535
    assert read_labels(save_png(tmp_path / "a.png", red))[0].tolist() == [[[0, 0, 0], [255, 0, 0]]]
    red[0, 1, 0] = 1
    with pytest.raises(DataError, match=r"a\.png: is a mask of 16-bit colours"):
        read_labels(save_png(tmp_path / "a.png", red))


def test_16_bits_of_which_0_is_white_are_inverted_as_8_bits_are(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    tifffile.imwrite(tmp_path / "a.tif", ramp, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "b.tif", ramp.astype(np.uint16) * 257, photometric="miniswhite")
    for name in ("a.tif", "b.tif"):
        pixels = read_image(tmp_path / name)[0]
        assert (pixels[0, 0, 0], pixels[-1, -1, 0]) == (255, 0)
    assert read_labels(tmp_path / "b.tif")[0][0, 0] == 65535


def test_the_stretch_changes_steadily_with_the_share_of_bright_pixels() -> None:
    """Of 10,000 pixels with 0..99, n are 40,000: white is the mean of the brightest 1 %, apart from 0.1 %."""
    spreads = []
    for bright in (20, 40, 60, 80):
        values = (np.arange(10_000) % 100).astype(np.float32)
        values[:bright] = 40_000
        scaled = rescale_to_uint8(values, Path("a.tif"))
        spreads.append((int(scaled.max()), int(scaled[bright:].max())))
    # (bright - 10) of 90 pixels at 40,000, the others at about 99: white is near 4,533, 13,400, 22,300 and 31,100.
    assert spreads == [(255, 6), (255, 2), (255, 1), (255, 1)]
