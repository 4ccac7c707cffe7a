"""A rule for the values of masks: what each of them means, and class indices in their place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from guidino_cli.errors import DataError

Code = int | tuple[int, int, int]
"""A mask value as stored: a grey value or index, or an RGB colour."""


@dataclass(frozen=True)
class MaskRule:
    """How mask values become class indices.

    Attributes:
        kind: "index" keeps values, "nonzero" and "threshold" make foreground of what is above 0 or above `threshold`,
            "codes" looks values or colours up in `codes`.
        why: The evidence, one sentence.
        class_count: Number of classes including the background.
    """

    kind: Literal["index", "nonzero", "threshold", "codes"]
    why: str
    class_count: int
    threshold: float = 0.0
    codes: tuple[tuple[Code, int], ...] = ()

    @property
    def sentence(self) -> str:
        """What is done and why, for people."""
        action = {
            "index": "values are class indices",
            "nonzero": "every value but 0 is foreground",
            "threshold": f"values above {self.threshold:g} are foreground",
            "codes": f"{len(self.codes)} values are looked up in --classes",
        }[self.kind]
        return f"{action}: {self.why}"


def apply(rule: MaskRule, values: np.ndarray) -> np.ndarray:
    """Turn a mask's values into class indices.

    Args:
        rule: From `decide`.
        values: From `read_values`.

    Returns:
        (H, W) uint8 class indices in 0..class_count - 1.

    Raises:
        DataError: A value the rule does not know; the caller adds the file.
    """
    if rule.kind == "codes":
        return _look_up(rule, values)
    if values.ndim == 3:
        if rule.kind != "nonzero":
            raise DataError(f"is a colour image, but the other masks are grey ({rule.why})")
        return np.asarray(values.any(axis=2), dtype=np.uint8)
    if values.dtype == bool or rule.kind == "nonzero":
        return (values != 0).view(np.uint8)
    if rule.kind == "threshold":
        return (values > rule.threshold).view(np.uint8)
    wrong = np.unique(values[(values < 0) | (values >= rule.class_count) | (values != np.round(values))])
    if wrong.size:
        raise DataError(f"has values {in_words(wrong.tolist())}, expected class indices 0..{rule.class_count - 1}")
    return values.astype(np.uint8)


def _look_up(rule: MaskRule, values: np.ndarray) -> np.ndarray:
    if not has_colours(rule):
        if values.ndim == 3:
            raise DataError("is a colour mask, but --classes gives grey values")
        table = grey_codes(rule)
        if values.dtype == bool:
            # True is white where the table speaks of 8-bit grey, and 1 where it speaks of indices.
            values = values.astype(np.int64) * (255 if 1 not in table else 1)
        return _map_values(values, table)
    grey = values.astype(np.int64) * (255 if values.dtype == bool else 1)
    packed = grey * 0x010101 if grey.ndim == 2 else grey[..., 0] << 16 | grey[..., 1] << 8 | grey[..., 2]
    return _map_values(packed, {pack(code): index for code, index in rule.codes})


def _map_values(values: np.ndarray, table: Mapping[int, int]) -> np.ndarray:
    labels = np.zeros(values.shape, dtype=np.uint8)
    known = np.zeros(values.shape, dtype=bool)
    for value, index in table.items():
        here = values == value
        labels[here] = index
        known |= here
    if not known.all():
        raise DataError(f"has values {in_words(np.unique(values[~known]).tolist())} that --classes does not name")
    return labels


def has_colours(rule: MaskRule) -> bool:
    """Whether a table looks up colours, not grey values."""
    return any(isinstance(code, tuple) for code, _ in rule.codes)


def grey_codes(rule: MaskRule) -> dict[int, int]:
    """The grey values of a table."""
    return {code: index for code, index in rule.codes if isinstance(code, int)}


def pack(code: Code) -> int:
    """A colour as 0xRRGGBB; a grey value as the colour it would be seen as."""
    return code * 0x010101 if isinstance(code, int) else code[0] << 16 | code[1] << 8 | code[2]


def in_words(values: Sequence[object]) -> str:
    """Up to six values in words: `0, 1, 2 ... 254, 255`."""
    words = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
    return ", ".join(words) if len(words) <= 6 else f"{', '.join(words[:3])} ... {', '.join(words[-2:])}"
