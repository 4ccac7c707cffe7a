"""Remarks about the foreground of masks and about their names."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from guidino_cli.preparation.checks import check_foreground, check_swapped_names
from guidino_cli.preparation.types import ImageMaskPair


def test_a_mask_with_only_the_second_class_is_not_empty() -> None:
    counts = {"a": np.array([90, 0, 10]), "b": np.array([90, 10, 0])}
    assert check_foreground(counts) == []


def test_an_empty_and_a_full_mask_are_named() -> None:
    counts = {"empty": np.array([100, 0]), "full": np.array([0, 100])}
    assert [(item.kind, item.text.rsplit(": ")[1]) for item in check_foreground(counts)] == [
        ("note", "empty"),
        ("warning", "full"),
    ]


def pair(image: str, mask: str) -> ImageMaskPair:
    return ImageMaskPair(Path(image).stem, (Path("images", image),), (Path("masks", mask),))


def test_masks_of_a_table_shifted_by_a_row_are_named() -> None:
    names = ["img_01", "img_02", "img_03", "img_04"]
    shifted = [pair(f"{a}.jpg", f"{b[4:]}_mask.png") for a, b in pairwise(names)]
    (finding,) = check_swapped_names([*shifted, pair("img_04.jpg", "04_mask.png")])
    assert finding.kind == "warning"
    assert finding.text.startswith("3 masks of 4 named like the image of another case: 02_mask.png for img_01.jpg, ")


def test_masks_named_unlike_any_image_are_not_suspicious() -> None:
    assert check_swapped_names([pair("a.jpg", "x1.png"), pair("b.jpg", "x2.png"), pair("c.jpg", "C_mask.png")]) == []
