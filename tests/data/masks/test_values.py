"""Which values a mask file holds."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.masks.values import read_values
from guidino_cli.errors import DataError


def test_a_palette_gives_indices_and_not_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "a.png")
    assert read_values(tmp_path / "a.png").tolist() == [[0, 1, 2]]


def test_an_inverted_black_and_white_palette_is_read_as_seen(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "a.gif")
    assert read_values(tmp_path / "a.gif").astype(bool).tolist() == [[True, False]]


def test_three_equal_channels_are_one(tmp_path: Path) -> None:
    grey = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    Image.fromarray(np.stack([grey] * 3, axis=2)).save(tmp_path / "a.png")
    assert read_values(tmp_path / "a.png").tolist() == grey.tolist()


def test_alpha_is_dropped_unless_it_alone_holds_the_mask(tmp_path: Path) -> None:
    mask = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    opaque, black = np.full_like(mask, 255), np.zeros_like(mask)
    Image.fromarray(np.stack([mask, mask, mask, opaque], axis=2)).save(tmp_path / "in_colour.png")
    Image.fromarray(np.stack([black, black, black, mask], axis=2)).save(tmp_path / "in_alpha.png")
    Image.fromarray(np.stack([black, black, black, opaque], axis=2)).save(tmp_path / "empty.png")
    assert read_values(tmp_path / "in_colour.png").tolist() == mask.tolist()
    assert read_values(tmp_path / "in_alpha.png").tolist() == mask.tolist()
    assert not read_values(tmp_path / "empty.png").any()


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    values = np.array([[0, 300], [65535, 1]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_values(tmp_path / "a.png").tolist() == values.tolist()


def test_the_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((2, 5), dtype=np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert read_values(tmp_path / "a.png").shape == (5, 2)


def test_an_array_file_is_read_as_it_is(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 2]], dtype=np.int64))
    assert read_values(tmp_path / "a.npy").tolist() == [[0, 2]]


def test_a_three_dimensional_array_is_refused_with_its_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 6)))
    with pytest.raises(DataError, match=r"a\.npy: expected a two-dimensional array.*\(4, 5, 6\)"):
        read_values(tmp_path / "a.npy")


def test_a_truncated_file_is_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.png"):
        read_values(tmp_path / "a.png")
