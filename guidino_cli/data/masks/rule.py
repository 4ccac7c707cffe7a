"""Rules that map mask values to class indices, and the parser of `--classes`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from guidino_cli.errors import ConfigError, DataError

Code = int | tuple[int, int, int]
"""A mask value as stored: a grey value or index, or an RGB colour."""


@dataclass(frozen=True)
class MaskRule:
    """Mapping of mask values to class indices.

    Attributes:
        kind: "index" keeps values; "nonzero" makes every value but 0 foreground, "threshold" every value above
            `threshold`; "codes" looks values or colours up in `codes`, which the user gave; "labels" looks values up in
            `codes`, which are the labels that occur.
        why: The evidence in one sentence.
        class_count: Number of classes, background included.
    """

    kind: Literal["index", "nonzero", "threshold", "codes", "labels"]
    why: str
    class_count: int
    threshold: float = 0.0
    codes: tuple[tuple[Code, int], ...] = ()

    @property
    def sentence(self) -> str:
        """The mapping and its evidence in one sentence."""
        action = {
            "index": "values are class indices",
            "nonzero": "every value but 0 is foreground",
            "threshold": f"values above {self.threshold:g} are foreground",
            "codes": f"{len(self.codes)} values are looked up in --classes",
            "labels": "values are labels",
        }[self.kind]
        return f"{action}: {self.why}"


def apply_mask_rule(rule: MaskRule, values: np.ndarray) -> np.ndarray:
    """Map the values of a mask to class indices.

    Args:
        rule: From `decide_mask_rule`.
        values: From `read_labels`.

    Returns:
        (H, W) class indices in 0..class_count - 1; uint8, or uint16 for more than 256 classes.

    Raises:
        DataError: A value that the rule does not cover, or that is not finite; the caller adds the file name.
    """
    require_finite(values)
    if rule.kind in {"codes", "labels"}:
        return _apply_codes(rule, values)
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
        raise DataError(f"has values {format_values(wrong.tolist())}, expected class indices 0..{rule.class_count - 1}")
    return values.astype(_index_type(rule.class_count))


def require_finite(values: np.ndarray) -> None:
    """Refuse NaN and infinite values: any comparison would turn them into background or foreground.

    Raises:
        DataError: Some value is not finite; the caller adds the file name.
    """
    if values.dtype.kind != "f":
        return
    wrong = values.size - int(np.count_nonzero(np.isfinite(values)))
    if wrong:
        raise DataError(
            f"{wrong} of {values.size} pixels are not finite (NaN or infinite), expected numbers; write the file again"
        )


def _index_type(class_count: int) -> type[np.unsignedinteger]:
    """Type that holds the indices of so many classes."""
    return np.uint8 if class_count <= 256 else np.uint16


def _apply_codes(rule: MaskRule, values: np.ndarray) -> np.ndarray:
    if not has_colours(rule):
        if values.ndim == 3:
            raise DataError("is a colour mask, but --classes gives grey values")
        table = grey_codes(rule)
        if values.dtype == bool:
            # True means white (255) if the table holds 8-bit grey values, and 1 if it holds indices.
            values = values.astype(np.int64) * (255 if 1 not in table else 1)
        return _map_values(values, table, rule.class_count)
    grey = values.astype(np.int64) * (255 if values.dtype == bool else 1)
    packed = grey * 0x010101 if grey.ndim == 2 else grey[..., 0] << 16 | grey[..., 1] << 8 | grey[..., 2]
    return _map_values(packed, {pack_colour(code): index for code, index in rule.codes}, rule.class_count)


def _map_values(values: np.ndarray, table: Mapping[int, int], class_count: int) -> np.ndarray:
    """Class index of every value; `DataError` for values that are not in the table."""
    if values.dtype.kind in "iu" and min(table) >= 0 and max(table) <= _MAX_LOOKUP:
        return _look_up(values, table, class_count)
    labels = np.zeros(values.shape, dtype=_index_type(class_count))
    known = np.zeros(values.shape, dtype=bool)
    for value, index in table.items():
        here = values == value
        labels[here] = index
        known |= here
    if not known.all():
        raise _unnamed_values_error(values[~known])
    return labels


_MAX_LOOKUP = 65535
"""Largest value for which a table of all values up to it is made; it takes one step a pixel however many classes."""


def _look_up(values: np.ndarray, table: Mapping[int, int], class_count: int) -> np.ndarray:
    last = max(table)
    outside = values > last
    if values.dtype.kind == "i":
        outside |= values < 0
    indices, known = np.zeros(last + 1, dtype=_index_type(class_count)), np.zeros(last + 1, dtype=bool)
    for value, index in table.items():
        indices[value], known[value] = index, True
    inside = np.where(outside, min(table), values)
    unknown = outside | ~known[inside]
    if unknown.any():
        raise _unnamed_values_error(values[unknown])
    return indices[inside]


def _unnamed_values_error(values: np.ndarray) -> DataError:
    return DataError(f"has values {format_values(np.unique(values).tolist())} that --classes does not name")


def class_names(rule: MaskRule) -> tuple[str, ...]:
    """Names of classes that the user did not name; a label that occurs is named by its value: class_205."""
    if rule.kind == "labels":
        return ("background", *(f"class_{value}" for value, _ in rule.codes[1:]))
    return default_class_names(rule.class_count)


def has_colours(rule: MaskRule) -> bool:
    """Whether the table of a rule holds colours instead of grey values."""
    return any(isinstance(code, tuple) for code, _ in rule.codes)


def grey_codes(rule: MaskRule) -> dict[int, int]:
    """The grey values of a rule's table with their class indices."""
    return {code: index for code, index in rule.codes if isinstance(code, int)}


def pack_colour(code: Code) -> int:
    """A colour as 0xRRGGBB; a grey value as the grey colour."""
    return code * 0x010101 if isinstance(code, int) else code[0] << 16 | code[1] << 8 | code[2]


def format_values(values: Sequence[object]) -> str:
    """Format values, at most six of them: `0, 1, 2 ... 254, 255`."""
    texts = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
    return ", ".join(texts) if len(texts) <= 6 else f"{', '.join(texts[:3])} ... {', '.join(texts[-2:])}"


_EXPECTED = "expected names such as 'background,polyp' or values such as '0=background,255=polyp' or '#ff0000=polyp'"


@dataclass(frozen=True)
class Classes:
    """Class names by index, background first, and the mask values that stand for them if the user gave any."""

    names: tuple[str, ...]
    codes: dict[Code, int] | None = None


def parse_classes(text: str) -> Classes:
    """Parse `--classes`: names in the order of their indices, or `value=name` entries.

    Values are grey values or indices (`0`, `255`) or colours (`#ff0000`); several values may share a name. The first
    name is the background, index 0.

    Raises:
        ConfigError: Neither form, a repeated name, one name only, or more than 255.
    """
    entries = [entry.strip() for entry in text.split(",")]
    with_values = ["=" in entry for entry in entries]
    if any(with_values) != all(with_values) or not all(entries):
        raise ConfigError(f"--classes '{text}': {_EXPECTED}")
    classes = _parse_codes(entries, text) if all(with_values) else Classes(tuple(entries))
    if len(set(classes.names)) != len(classes.names):
        raise ConfigError(f"--classes '{text}': a name is given twice")
    if not 2 <= len(classes.names) <= 255:
        raise ConfigError(f"--classes '{text}': found {len(classes.names)} class, expected 2 to 255; {_EXPECTED}")
    if "background" in classes.names[1:]:
        raise ConfigError(f"--classes '{text}': background must come first, it is class 0")
    return classes


def default_class_names(count: int) -> tuple[str, ...]:
    """Names of classes that the user did not name: background, foreground; or background, class_1, class_2."""
    if count == 2:
        return ("background", "foreground")
    return ("background", *(f"class_{index}" for index in range(1, count)))


def _parse_codes(entries: list[str], text: str) -> Classes:
    names: list[str] = []
    codes: dict[Code, int] = {}
    for entry in entries:
        value, _, name = (part.strip() for part in entry.partition("="))
        code = _parse_code(value, text)
        if not name or code in codes:
            raise ConfigError(f"--classes '{text}': '{entry}' has no name or repeats a value; {_EXPECTED}")
        if name not in names:
            names.append(name)
        codes[code] = names.index(name)
    return Classes(tuple(names), codes)


def _parse_code(value: str, text: str) -> Code:
    if re.fullmatch(r"-?\d+", value):
        return int(value)
    if re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
    raise ConfigError(f"--classes '{text}': '{value}' is neither a whole number nor a colour like #ff0000")
