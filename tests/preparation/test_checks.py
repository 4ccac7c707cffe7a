"""Remarks about the foreground of masks."""

import numpy as np

from guidino_cli.preparation.checks import check_foreground


def test_a_mask_with_only_the_second_class_is_not_empty() -> None:
    counts = {"a": np.array([90, 0, 10]), "b": np.array([90, 10, 0])}
    assert check_foreground(counts) == []


def test_an_empty_and_a_full_mask_are_named() -> None:
    counts = {"empty": np.array([100, 0]), "full": np.array([0, 100])}
    assert [(item.kind, item.text.rsplit(": ")[1]) for item in check_foreground(counts)] == [
        ("note", "empty"),
        ("warning", "full"),
    ]
