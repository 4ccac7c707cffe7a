"""Mask readers: one rule from stored values to class indices for all masks of a folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from guidino_cli.data.masks.decision import LOSSY_MIDDLE_SHARE, decide_mask_rule
from guidino_cli.data.masks.rule import Code, MaskRule, apply_mask_rule, has_colours
from guidino_cli.data.masks.values import (
    HIGH_CLUSTER_MIN,
    LOSSY_SUFFIXES,
    LOW_CLUSTER_MAX,
    Histogram,
    compute_histogram,
    read_in_colour,
    used_colours,
)
from guidino_cli.data.readers import read_labels, read_palette
from guidino_cli.data.volumes import is_volume
from guidino_cli.errors import DataError
from guidino_cli.progress import pluralize

_SAMPLE_SIZE = 48
"""Masks from which the rule is made. Others are checked when they are read; if one has an unexpected value, the rule is
made again from all masks."""


class UnexpectedValueError(Exception):
    """A mask contains a value that no mask of the sample had."""


@dataclass(frozen=True)
class Mask:
    """One mask as class indices.

    Attributes:
        labels: uint8 class indices, two or three axes.
        ignored: Boolean, pixels that do not count; None without an ignore label.
        spacing_mm: Voxel size along each axis, None for images.
        affine: (4, 4) of a volume, None for images.
        instances: Stored instance numbers, if the reader keeps them.
    """

    labels: np.ndarray
    ignored: np.ndarray | None = None
    spacing_mm: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    instances: np.ndarray | None = None


@dataclass(frozen=True)
class ReadOptions:
    """Options for the values of the masks of one side; see `data.masks.decision.decide_mask_rule`."""

    class_count: int | None = None
    codes: tuple[tuple[Code, int], ...] | None = None
    binary: bool = False
    threshold: float | None = None
    ignore: int | None = None
    instances: bool = False


@dataclass(frozen=True)
class MaskReader:
    """Reader of all masks of one side.

    Attributes:
        rule: Maps stored values to class indices.
        values: Values that the rule was made from; None if any value that it accepts is expected.
        ignore: Stored value of pixels that do not count.
        instances: Keep the stored values as instance numbers.
        palette: Palette indices with a meaning and their colours (0xRRGGBB), which no file may contradict.
    """

    rule: MaskRule
    values: frozenset[int] | None = None
    ignore: int | None = None
    instances: bool = False
    palette: tuple[tuple[int, int], ...] = ()

    def read(self, path: Path) -> Mask:
        """Read one mask.

        Raises:
            DataError: The file is unreadable, or the rule rejects a value.
            UnexpectedValueError: A value that did not occur when the rule was made.
        """
        values, shape, mask = _read_values(path, in_colour=has_colours(self.rule))
        ignored = None
        if self.ignore is not None and values.dtype != bool and values.ndim == 2:
            ignored = (values == self.ignore).reshape(shape)
            values = _ignored_to_background(values, self.ignore)
        if self.palette and self._has_other_colours(values, path):
            raise UnexpectedValueError(str(path))
        if self.values is not None and self._has_unexpected(values, is_lossy=path.suffix.lower() in LOSSY_SUFFIXES):
            raise UnexpectedValueError(str(path))
        try:
            labels = apply_mask_rule(self.rule, values).reshape(shape)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        instances = _instance_numbers(values, path).reshape(shape) if self.instances else None
        return replace(mask, labels=labels, ignored=ignored, instances=instances)

    def _has_other_colours(self, values: np.ndarray, path: Path) -> bool:
        palette = read_palette(path)
        if palette is None:
            return False
        known = dict(self.palette)
        found = [index for index in np.unique(values).tolist() if index in known]
        return used_colours(values, found, palette) != tuple(known[index] for index in found)

    def _has_unexpected(self, values: np.ndarray, *, is_lossy: bool) -> bool:
        if values.dtype == bool or self.rule.kind == "codes":
            return False
        if self.rule.kind == "threshold" and values.ndim == 2:
            middle = np.count_nonzero((values > LOW_CLUSTER_MAX) & (values < HIGH_CLUSTER_MIN))
            return bool(middle > (LOSSY_MIDDLE_SHARE * values.size if is_lossy else 0))
        if values.ndim == 3:
            return self.rule.kind != "nonzero"
        if values.dtype.kind == "f":
            return True
        return not _holds_only(values, self.values or frozenset())


def make_reader(paths: Sequence[Path], options: ReadOptions, *, read_all: bool = False) -> MaskReader:
    """Decide how the masks of a folder are read.

    Unreadable files are skipped; they are reported when their cases are scored.

    Args:
        paths: All masks of this side.
        options: Options for their values.
        read_all: Read every mask instead of a sample.

    Raises:
        DataError: The values are ambiguous, or no file can be read.
    """
    sample = list(paths)
    if not read_all and len(sample) > _SAMPLE_SIZE:
        sample = [paths[index * len(paths) // _SAMPLE_SIZE] for index in range(_SAMPLE_SIZE)]
    if options.instances:
        return MaskReader(MaskRule("nonzero", "instance maps", 2), None, options.ignore, instances=True)
    is_explicit = options.binary or options.threshold is not None or options.codes is not None
    in_colour = any(isinstance(code, tuple) for code, _ in options.codes or ())
    histograms, problems = _read_histograms(sample, options.ignore, in_colour=in_colour)
    if not histograms:
        raise DataError(f"none of {pluralize(len(sample), 'mask')} can be read; the first: {problems[0]}")
    class_count = options.class_count
    values = frozenset(int(value) for item in histograms for value in item.values if item.kind != "float")
    if any(is_volume(path) for path in sample) and class_count is None and len(values - {0}) > 1:
        # Volumes store labels as such: they cannot be mistaken for 8-bit grey values.
        class_count = max(values) + 1
    codes = dict(options.codes) if options.codes else None
    rule = decide_mask_rule(
        histograms, class_count=class_count, codes=codes, binary=options.binary, threshold=options.threshold
    )
    if len(histograms) < len(paths):
        rule = replace(rule, why=f"{rule.why} (the rest of {len(paths)} is checked on reading)")
    colours = {index: colour for item in histograms for index, colour in zip(item.values, item.palette, strict=False)}
    palette = {int(index): colour for index, colour in colours.items() if index == 0 or not options.binary}
    if read_all or codes is not None:
        palette = {}
    return MaskReader(rule, None if is_explicit or read_all else values, options.ignore, palette=tuple(palette.items()))


def index_reader(class_count: int, *, ignore: int | None = None) -> MaskReader:
    """Reader for masks written by `guidino prepare`, whose values are class indices."""
    return MaskReader(MaskRule("index", "prepared by guidino", class_count), None, ignore)


def _read_histograms(
    paths: Sequence[Path], ignore: int | None, *, in_colour: bool
) -> tuple[list[Histogram], list[str]]:
    histograms, problems = [], []
    for path in paths:
        try:
            values, _, _ = _read_values(path, in_colour=in_colour)
            palette = None if in_colour else read_palette(path)
        except DataError as error:
            problems.append(str(error))
            continue
        except MemoryError:
            problems.append(f"{path}: not enough memory to read it")
            continue
        if ignore is not None:
            values = _ignored_to_background(values, ignore)
        is_lossy = path.suffix.lower() in LOSSY_SUFFIXES
        histograms.append(compute_histogram(values, name=path.name, is_lossy=is_lossy, palette=palette))
    return histograms, problems


def _read_values(path: Path, *, in_colour: bool = False) -> tuple[np.ndarray, tuple[int, ...], Mask]:
    """Stored values, shape of the grid, and a mask without labels yet.

    The values of a volume are reshaped to two axes, because three axes mean colours in `data.masks`.
    """
    values, geometry = read_in_colour(path) if in_colour else read_labels(path)
    mask = Mask(np.empty(0, dtype=np.uint8), None, geometry.spacing_mm, geometry.affine)
    if geometry.affine is not None:
        values = values.reshape(geometry.shape[0], -1)
    return values, geometry.shape, mask


def _instance_numbers(values: np.ndarray, path: Path) -> np.ndarray:
    if values.ndim == 3:
        packed = values.astype(np.int32)
        return packed[..., 0] << 16 | packed[..., 1] << 8 | packed[..., 2]
    if values.dtype.kind == "f":
        raise DataError(f"{path}: has fractional values, expected integer instance numbers")
    return values


def _ignored_to_background(values: np.ndarray, ignore: int) -> np.ndarray:
    """Replace the ignored grey value by background."""
    if values.dtype == bool or values.ndim == 3:
        return values
    return np.where(values == ignore, values.dtype.type(0), values)


def _holds_only(values: np.ndarray, allowed: frozenset[int]) -> bool:
    accepted = allowed | {0}
    if values.dtype == np.uint8 and accepted <= {0, 255}:
        # As signed numbers these are 0 and -1, so minimum and maximum suffice, which is several times faster.
        signed = values.view(np.int8)
        return bool(signed.max() <= 0 and signed.min() >= (-1 if 255 in accepted else 0))
    if values.dtype.kind == "u" and max(accepted) == len(accepted) - 1:
        return bool(values.max() <= max(accepted))
    if len(accepted) <= 5:
        hit = values == 0
        for value in accepted - {0}:
            hit |= values == value
        return bool(hit.all())
    return set(np.unique(values).tolist()) <= accepted
