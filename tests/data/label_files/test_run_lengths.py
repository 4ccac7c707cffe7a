"""Run lengths by hand and by pycocotools."""

import numpy as np
import pytest

from guidino_cli.data.label_files.run_lengths import (
    decode_brush,
    decode_runs,
    encode_runs,
    runs_to_text,
    text_to_runs,
)

_MASK = np.array([[0, 1, 1], [0, 0, 1]], dtype=bool)


def test_runs_go_down_columns_and_begin_with_the_background() -> None:
    assert encode_runs(_MASK) == [2, 1, 1, 2]
    assert np.array_equal(decode_runs([2, 1, 1, 2], (2, 3)), _MASK)


def test_a_mask_that_begins_with_foreground_begins_with_a_run_of_zero() -> None:
    assert encode_runs(~_MASK) == [0, 2, 1, 1, 2]
    assert encode_runs(np.zeros((2, 2), dtype=bool)) == [4]
    assert encode_runs(np.ones((2, 2), dtype=bool)) == [0, 4]


def test_runs_along_rows_are_those_of_cvat() -> None:
    assert np.array_equal(decode_runs([1, 2, 2, 1], (2, 3), by_rows=True), _MASK)


@pytest.mark.parametrize(("counts", "message"), [([2, 1], "3 pixels, expected 6"), ([8, -2], "a run of -2 pixels")])
def test_runs_that_do_not_fit_the_size_are_refused(counts: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_runs(counts, (2, 3))


def test_texts_are_those_of_pycocotools() -> None:
    oracle = pytest.importorskip("pycocotools.mask", reason="pycocotools, the oracle, is not installed")
    random = np.random.default_rng(0)
    for _ in range(100):
        shape = tuple(int(side) for side in random.integers(1, 60, 2))
        mask = random.random(shape) < random.choice([0.02, 0.5, 0.98])
        text = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert runs_to_text(encode_runs(mask)) == text
        assert np.array_equal(decode_runs(text_to_runs(text), mask.shape), mask)


@pytest.mark.parametrize(("text", "message"), [("0 2", "none of its characters"), ("X", "breaks off")])
def test_damaged_texts_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        text_to_runs(text)


def _pack(fields: list[tuple[int, int]]) -> bytes:
    bits = "".join(f"{value:0{width}b}" for value, width in fields)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


# 2 x 1 pixels of RGBA, 8 bits a value; counts of 1, 2, 3 or 4 bits.
_HEAD = [(8, 32), (7, 5), (0, 4), (1, 4), (2, 4), (3, 4)]


def test_a_brush_is_the_opacity_of_its_pixels() -> None:
    # The first pixel is four zeros in one run, the second 9, 9, 9, 255 value by value.
    fields = [*_HEAD, (1, 1), (2, 2), (3, 3), (0, 8), (0, 1), (1, 2), (3, 2), (9, 8), (9, 8), (9, 8), (255, 8)]
    assert decode_brush(_pack(fields), (2, 1)).tolist() == [[False], [True]]


def test_a_brush_of_another_size_or_cut_off_is_refused() -> None:
    with pytest.raises(ValueError, match="8 values, expected 16 for 2x2"):
        decode_brush(_pack(_HEAD), (2, 2))
    with pytest.raises(ValueError, match="breaks off"):
        decode_brush(_pack(_HEAD), (2, 1))
