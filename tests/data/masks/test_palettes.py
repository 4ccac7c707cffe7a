"""Palettes of a folder of masks: an index means a class only where its colour is the same in all files."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.masks.decision import decide_mask_rule
from guidino_cli.data.masks.rule import apply_mask_rule
from guidino_cli.data.masks.values import Histogram, read_with_histogram
from guidino_cli.errors import DataError

BLACK, RED, GREEN, WHITE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255)


def save(path: Path, indices: list[int], *palette: tuple[int, int, int]) -> Path:
    image = Image.fromarray(np.array([indices], dtype=np.uint8), mode="P")
    image.putpalette([channel for colour in palette for channel in colour])
    image.save(path)
    return path


def histograms(*paths: Path) -> list[Histogram]:
    return [read_with_histogram(path)[1] for path in paths]


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
def test_the_colours_of_the_indices_that_occur_are_read(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", [0, 2], BLACK, RED, GREEN)
    assert histograms(path)[0].palette == (0x000000, 0x00FF00)


def test_swapped_palettes_are_refused_with_both_files_and_a_table(tmp_path: Path) -> None:
    one = save(tmp_path / "a.png", [0, 1, 1], BLACK, RED)
    other = save(tmp_path / "b.png", [0, 1, 1], RED, BLACK)
    table = r"a\.png and #ff0000 in b\.png.*--classes '#000000=background,#ff0000=class_1'"
    with pytest.raises(DataError, match=table):
        decide_mask_rule(histograms(one, other))


def test_the_proposed_table_of_colours_reads_swapped_palettes(tmp_path: Path) -> None:
    paths = save(tmp_path / "a.png", [0, 1, 1], BLACK, RED), save(tmp_path / "b.png", [0, 1, 1], RED, BLACK)
    read = [read_with_histogram(path, in_colour=True) for path in paths]
    rule = decide_mask_rule([item for _, item in read], codes={BLACK: 0, RED: 1})
    assert [apply_mask_rule(rule, values).tolist() for values, _ in read] == [[[0, 1, 1]], [[1, 0, 0]]]


def test_one_index_of_two_colours_is_refused(tmp_path: Path) -> None:
    paths = save(tmp_path / "a.png", [0, 1], BLACK, RED), save(tmp_path / "b.png", [0, 1], BLACK, GREEN)
    with pytest.raises(DataError, match=r"palette index 1 is #ff0000 in a\.png and #00ff00 in b\.png"):
        decide_mask_rule(histograms(*paths))


def test_unused_entries_may_differ(tmp_path: Path) -> None:
    paths = save(tmp_path / "a.png", [0, 1], BLACK, RED, GREEN), save(tmp_path / "b.png", [0, 1], BLACK, RED, WHITE)
    assert decide_mask_rule(histograms(*paths)).kind == "nonzero"


def test_instance_colours_may_differ_where_only_the_background_has_a_meaning(tmp_path: Path) -> None:
    paths = save(tmp_path / "a.png", [0, 1, 2], BLACK, RED, GREEN), save(tmp_path / "b.png", [0, 1], BLACK, GREEN)
    assert decide_mask_rule(histograms(*paths), binary=True).kind == "nonzero"


def test_a_background_that_is_not_black_is_said(tmp_path: Path) -> None:
    rule = decide_mask_rule(histograms(save(tmp_path / "a.png", [0, 1], RED, BLACK)))
    assert "index 0, read as background, is #ff0000 in the palettes of 1 mask" in rule.why
    assert "index 0" not in decide_mask_rule(histograms(save(tmp_path / "b.png", [0, 1], BLACK, RED))).why


def test_a_full_mask_of_a_black_and_white_palette_is_not_empty(tmp_path: Path) -> None:
    values, _ = read_with_histogram(save(tmp_path / "a.png", [0, 0], WHITE, BLACK))
    assert values.tolist() == [[True, True]]


def test_an_index_beyond_the_palette_is_refused_in_colour(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", [0, 3], BLACK, RED, GREEN, WHITE)
    data = path.read_bytes()
    start = data.index(b"PLTE")
    short = data[: start - 4] + (3).to_bytes(4, "big") + b"PLTE" + bytes(3)
    (tmp_path / "b.png").write_bytes(short + zlib.crc32(b"PLTE" + bytes(3)).to_bytes(4, "big") + data[start + 20 :])
    with pytest.raises(DataError, match=r"b\.png: has palette index 3, but its palette has 1 colour"):
        read_with_histogram(tmp_path / "b.png", in_colour=True)
