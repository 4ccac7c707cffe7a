"""Slices of volumes: which are looked at, and how those of a volume are kept together."""

import numpy as np
import pytest
import torch

from guidino_cli.engine.fewshot.fitting import fold_numbers
from guidino_cli.engine.fewshot.images import LabelledImage, SeenImage
from guidino_cli.engine.fewshot.slices import VolumeLabels, spread


def slices(*volumes: str | None) -> list[LabelledImage]:
    seen = SeenImage(np.zeros((1, 2, 2), dtype=np.float32), torch.ones(1, 2, 2))
    return [LabelledImage(seen, np.zeros((2, 2), dtype=np.uint8), name) for name in volumes]


def labels(*rows: tuple[int, ...]) -> VolumeLabels:
    return VolumeLabels("v", np.array(rows))


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [15]), (2, [12, 17]), (5, [11, 13, 15, 17, 19]), (10, list(range(10, 20)))]
)
def test_places_are_the_middles_of_equal_parts(count: int, expected: list[int]) -> None:
    assert spread(range(10, 20), count) == expected


def test_few_labelled_slices_are_all_taken_and_others_never() -> None:
    item = labels((4, 0), (0, 0), (3, 1), (0, 0), (4, 0))
    assert item.choose(3) == [0, 2, 4]
    assert item.area == pytest.approx([1 / 12])


def test_half_of_the_slices_show_the_classes() -> None:
    # Class 1 on slices 4 to 7, class 2 on slice 9 alone, of 20.
    rows = [(16 - 4 * (4 <= z < 8) - 4 * (z == 9), 4 * (4 <= z < 8), 4 * (z == 9)) for z in range(20)]
    chosen = labels(*rows).choose(8)
    assert len(chosen) == 8
    assert {5, 7, 9} <= set(chosen)
    assert min(chosen) <= 2
    assert max(chosen) >= 17


def test_slices_of_a_volume_share_a_fold() -> None:
    assert fold_numbers(slices("a", "a", "b", "b", "c")) == [0, 0, 1, 1, 2]
    assert fold_numbers(slices(*"abcdefg")) == [0, 1, 2, 3, 4, 0, 1]


def test_a_single_volume_is_cut_into_blocks() -> None:
    assert fold_numbers(slices(*["a"] * 10)) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert fold_numbers(slices("a", "a", "a")) == [0, 1, 2]


def test_images_are_taken_in_turn() -> None:
    assert fold_numbers(slices(*[None] * 7)) == [0, 1, 2, 3, 4, 0, 1]
    assert fold_numbers(slices(None)) == [0]
