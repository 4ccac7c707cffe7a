"""Histograms of mask values, counted by hand."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.masks import values as module
from guidino_cli.data.masks.values import (
    Histogram,
    IgnoredValue,
    compute_histogram,
    read_with_histogram,
    used_colours,
)
from guidino_cli.errors import DataError


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.float32])
def test_whole_numbers_of_every_type_are_counted(dtype: type) -> None:
    found = compute_histogram(np.array([[3, 0, 3], [200, 0, 3]], dtype=dtype), name="a")
    assert found == Histogram("a", (0, 3, 200), (2, 3, 1), 3, "grey")
    assert all(isinstance(value, int) for value in found.values)


def test_one_bit_is_a_kind_of_its_own() -> None:
    assert compute_histogram(np.array([[True, False, True]]), name="a") == Histogram("a", (0, 1), (1, 2), 2, "bool")


@pytest.mark.parametrize("values", [[0.5, 1.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_fractions_and_values_that_are_not_finite_are_floats(values: list[float]) -> None:
    found = compute_histogram(np.array([values]), name="a", is_lossy=True)
    assert (found.kind, found.distinct, found.is_lossy) == ("float", 2, True)


def test_colours_are_packed_in_the_order_red_green_blue() -> None:
    colours = np.array([[[1, 2, 3], [0, 0, 255], [1, 2, 3]]], dtype=np.uint8)
    assert compute_histogram(colours, name="a") == Histogram("a", (0x0000FF, 0x010203), (1, 2), 2, "colour")


def test_only_the_first_512_values_are_stored() -> None:
    found = compute_histogram(np.arange(600, dtype=np.uint16)[None], name="a")
    assert (len(found.values), len(found.counts), found.distinct, found.values[-1]) == (512, 512, 600, 511)


def test_counting_in_chunks_leaves_out_no_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 4)
    values = np.array([[0, 0, 1, 1, 1], [2, 2, 2, 2, 7]], dtype=np.uint8)
    assert compute_histogram(values, name="a").counts == (2, 3, 4, 1)


def test_the_middle_share_leaves_out_both_clusters() -> None:
    """Of ten pixels, 32 and 223 lie between; 31 and 224 do not."""
    assert Histogram("a", (0, 31, 32, 223, 224), (4, 1, 2, 1, 2), 5, "grey").middle_share == 0.3
    assert Histogram("a", (), (), 0, "grey").middle_share == 0.0
    assert Histogram("a", (100,), (1,), 1, "grey").middle_share == 1.0


def test_colours_of_a_palette_are_those_of_the_values_that_occur() -> None:
    palette = np.array([[0, 0, 0], [1, 2, 3], [9, 9, 9]], dtype=np.uint8)
    found = compute_histogram(np.array([[1, 0, 3]], dtype=np.uint8), name="a", palette=palette)
    assert found.palette == (0, 0x010203, 0)  # index 3 lies beyond the palette
    assert used_colours(np.array([[True]]), [0, 1], palette) == (0, 0xFFFFFF)
    assert used_colours(np.zeros((1, 1, 3), dtype=np.uint8), [0], palette) == ()


def test_a_volume_is_no_mask_of_an_image(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), dtype=np.uint8), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"a\.nii: is a volume of 3 axes, expected a two-dimensional mask"):
        read_with_histogram(tmp_path / "a.nii")


def test_a_palette_is_read_as_indices_or_as_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="L")
    image.putpalette([0, 0, 0, 1, 2, 3])
    image.save(tmp_path / "a.png")
    assert read_with_histogram(tmp_path / "a.png")[1].values == (0, 1)
    assert read_with_histogram(tmp_path / "a.png", in_colour=True)[1].values == (0, 0x010203)


@pytest.mark.parametrize("background", [1, 300, -1])
def test_a_background_that_8_bits_cannot_hold_takes_the_place_of_the_ignored_value(background: int) -> None:
    values = np.array([[0, 2], [2, 0]], dtype=np.uint8)
    ignore = IgnoredValue.among(0, [((255, 0, 0), 0), (2, 1), (background, 0)])
    assert ignore.replace(values).tolist() == [[background, 2], [2, background]]
