"""Several masks of one image: ask whether to merge them, merge them to their union, and say where they overlap."""

from collections.abc import Sequence

import numpy as np

from guidino_cli.data.masks.rule import MaskRule, apply_mask_rule
from guidino_cli.errors import DataError
from guidino_cli.preparation.checks import Finding, PackedMask, format_items
from guidino_cli.preparation.types import ImageMaskPair
from guidino_cli.progress import pluralize
from guidino_cli.types import width_by_height


def ask_to_merge(pairs: Sequence[ImageMaskPair]) -> Finding:
    """Ask for `--merge-masks`, with the first image that has several masks."""
    several = [pair for pair in pairs if len(pair.masks) > 1] or list(pairs)
    example = f"{format_items(several[0].images)} has {format_items(several[0].masks)}"
    return Finding(
        "error",
        f"{pluralize(len(several), 'image')} with several masks each ({example}): --merge-masks makes every pixel "
        "foreground that is in any of them; else leave one mask an image",
    )


def merge_masks(labels: Sequence[np.ndarray]) -> np.ndarray:
    """Merge the binary masks of one image to their union, (H, W) uint8; a single mask may hold any classes.

    Raises:
        DataError: Their sizes differ, or they hold several classes, whose overlap would be undecided.
    """
    if len({item.shape for item in labels}) > 1:
        sizes = ", ".join(width_by_height(item.shape) for item in labels)
        raise DataError(f"its masks have different sizes ({sizes})")
    if len(labels) > 1 and max(int(item.max()) for item in labels) > 1:
        raise DataError(
            "it has several masks with more than one class, whose overlap is undecided; --binary makes every value but "
            "0 foreground"
        )
    return np.maximum.reduce(list(labels))


def describe_merging(items: Sequence[tuple[ImageMaskPair, Sequence[PackedMask]]], rule: MaskRule) -> list[Finding]:
    """Say how many masks were merged, and in how many pixels they overlap."""
    several = [(pair, masks) for pair, masks in items if len(masks) > 1]
    if not several:
        return []
    total = sum(len(masks) for _, masks in several)
    text = f"{pluralize(total, 'mask')} of {pluralize(len(several), 'image')} merged to their union"
    overlaps = {pair.id: _count_overlap(masks, rule) for pair, masks in several}
    shared = [case for case, pixels in overlaps.items() if pixels]
    if not shared:
        return [Finding("note", f"{text}; none overlap")]
    pixels = pluralize(sum(overlaps.values()), "pixel")
    where = f"{pluralize(len(shared), 'image')} lie in several masks: {format_items(shared)}"
    return [Finding("warning", f"{text}; {pixels} in {where}")]


def _count_overlap(masks: Sequence[PackedMask], rule: MaskRule) -> int:
    """Number of pixels that are foreground in more than one mask."""
    covers = np.sum([apply_mask_rule(rule, mask.values()) > 0 for mask in masks], axis=0)
    return int(np.count_nonzero(covers > 1))
