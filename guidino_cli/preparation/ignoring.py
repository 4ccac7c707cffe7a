"""Pixels that do not count: masks that cannot tell them, where they are, and how many there are."""

from collections.abc import Sequence

import numpy as np

from guidino_cli.data.masks.values import IgnoredValue
from guidino_cli.preparation.checks import Finding, PackedMask
from guidino_cli.preparation.types import ImageMaskPair
from guidino_cli.progress import pluralize


def refuse_lossy_masks(pairs: Sequence[ImageMaskPair], ignore: IgnoredValue | None) -> list[Finding]:
    """An error if masks are compressed with loss: around the pixels that do not count, values are near theirs only."""
    problem = "" if ignore is None else ignore.describe_lossy([path for pair in pairs for path in pair.masks])
    return [Finding("error", problem)] if problem else []


def find_ignored(masks: Sequence[PackedMask], labels: np.ndarray) -> np.ndarray:
    """Booleans (H, W) of the pixels of a case that do not count.

    Args:
        masks: Masks of the case, usually one.
        labels: (H, W) class indices of all of them together.
    """
    # What one of several masks does not know, another one may.
    return np.logical_or.reduce([mask.ignored() for mask in masks]) & (labels == 0)


def describe_ignored(counts: Sequence[int], ignore: IgnoredValue | None) -> list[Finding]:
    """Say how many pixels do not count.

    Args:
        counts: Pixels of each case that do not count.
        ignore: Their value in the masks; None if all pixels count.
    """
    if ignore is None:
        return []
    cases = sum(count > 0 for count in counts)
    if not cases:
        return [Finding("warning", f"no mask has a pixel of the ignore label, {ignore.value}")]
    pixels = f"{pluralize(sum(counts), 'pixel')} of {pluralize(cases, 'image')}"
    return [Finding("note", f"{pixels} do not count (ignore label {ignore.value})")]
