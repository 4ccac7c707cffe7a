"""Mask readers: one rule from stored values to class indices for all masks of a folder."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from guidino_cli.data.masks.decision import LOSSY_MIDDLE_SHARE
from guidino_cli.data.masks.rule import Code, MaskRule, apply_mask_rule, has_colours, require_finite
from guidino_cli.data.masks.values import (
    HIGH_CLUSTER_MIN,
    LOSSY_SUFFIXES,
    LOW_CLUSTER_MAX,
    IgnoredValue,
    read_in_colour,
    round_labels,
    used_colours,
)
from guidino_cli.data.readers import find_reader, read_labels, read_palette
from guidino_cli.data.volumes.dicom.segments import is_segmentation_file, read_segmentation
from guidino_cli.errors import DataError


class UnexpectedValueError(Exception):
    """A mask contains a value that no mask of the sample had."""


@dataclass(frozen=True)
class Mask:
    """One mask as class indices.

    Attributes:
        labels: Class indices, two or three axes; uint8, or uint16 for more than 256 classes.
        ignored: Boolean, pixels that do not count; None without an ignore label.
        spacing_mm: Voxel size along each axis, None for images.
        affine: (4, 4) of a volume; None for images, and for volumes whose header states no orientation.
        instances: Stored instance numbers, if the reader keeps them.
        omits_empty_slices: Whether slices without any label may be missing at the ends.
    """

    labels: np.ndarray
    ignored: np.ndarray | None = None
    spacing_mm: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    instances: np.ndarray | None = None
    omits_empty_slices: bool = False

    @property
    def is_volume(self) -> bool:
        """Whether the mask comes from a file that states a size in millimetres, as volumes do."""
        return self.spacing_mm is not None or self.affine is not None


@dataclass(frozen=True)
class ReadOptions:
    """Options for the values of the masks of one side; see `data.masks.decision.decide_mask_rule`.

    Attributes:
        segment: Label of the only segment of DICOM SEG files that is read, as value 1; other formats have none.
    """

    class_count: int | None = None
    codes: tuple[tuple[Code, int], ...] | None = None
    binary: bool = False
    threshold: float | None = None
    ignore: int | None = None
    instances: bool = False
    segment: str | None = None

    @property
    def is_explicit(self) -> bool:
        """Whether the user said what the values mean."""
        return self.binary or self.threshold is not None or self.codes is not None

    @property
    def ignored(self) -> IgnoredValue | None:
        """Stored value of pixels that do not count; None if all count."""
        return None if self.ignore is None else IgnoredValue.among(self.ignore, self.codes or ())


@dataclass(frozen=True)
class MaskReader:
    """Reader of all masks of one side.

    Attributes:
        rule: Maps stored values to class indices.
        values: Values that the rule was made from; None if any value that it accepts is expected.
        ignore: Stored value of pixels that do not count.
        instances: Keep the stored values as instance numbers.
        palette: Palette indices with a meaning and their colours (0xRRGGBB), which no file may contradict.
        segment: Label of the only segment of DICOM SEG files that is read; None for all.
    """

    rule: MaskRule
    values: frozenset[int] | None = None
    ignore: int | None = None
    instances: bool = False
    palette: tuple[tuple[int, int], ...] = ()
    segment: str | None = None

    def read(self, path: Path) -> Mask:
        """Read one mask.

        Raises:
            DataError: The file is unreadable, or the rule rejects a value.
            UnexpectedValueError: A value that did not occur when the rule was made.
        """
        values, shape, mask = read_values(path, in_colour=has_colours(self.rule), segment=self.segment)
        ignored = None
        if self.rule.kind != "threshold":
            values, _ = round_labels(values)
        if self.ignore is not None and values.dtype != bool and values.ndim == 2:
            ignore = IgnoredValue.among(self.ignore, self.rule.codes)
            ignored = ignore.find(values).reshape(shape)
            values = ignore.replace(values)
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
        if values.dtype == bool:
            return False
        if self.rule.kind == "threshold" and values.ndim == 2:
            middle = np.count_nonzero((values > LOW_CLUSTER_MAX) & (values < HIGH_CLUSTER_MIN))
            return bool(middle > (LOSSY_MIDDLE_SHARE * values.size if is_lossy else 0))
        if values.ndim == 3:
            return self.rule.kind != "nonzero"
        if values.dtype.kind == "f":
            return True
        return not _holds_only(values, self.values or frozenset())


def index_reader(class_count: int, *, ignore: int | None = None) -> MaskReader:
    """Reader for masks written by `guidino prepare`, whose values are class indices."""
    return MaskReader(MaskRule("index", "prepared by guidino", class_count), None, ignore)


def read_values(
    path: Path, *, in_colour: bool = False, segment: str | None = None
) -> tuple[np.ndarray, tuple[int, ...], Mask]:
    """Stored values, shape of the grid, and a mask without labels yet.

    The values of a volume are reshaped to two axes, because three axes mean colours in `data.masks`.
    """
    if segment is not None and is_segmentation_file(path):
        found = read_segmentation(path, segment=segment)
        values, geometry = (found.labels > 0).astype(np.uint8), found.geometry
    else:
        values, geometry = read_in_colour(path) if in_colour else read_labels(path)
    _require_finite(values, path)
    mask = Mask(
        np.empty(0, dtype=np.uint8),
        spacing_mm=geometry.spacing_mm,
        affine=geometry.affine,
        omits_empty_slices=find_reader(path).omits_empty_slices,
    )
    if mask.is_volume:
        values = values.reshape(geometry.shape[0], -1)
    return values, geometry.shape, mask


def _instance_numbers(values: np.ndarray, path: Path) -> np.ndarray:
    if values.ndim == 3:
        packed = values.astype(np.int32)
        return packed[..., 0] << 16 | packed[..., 1] << 8 | packed[..., 2]
    if values.dtype.kind == "f":
        raise DataError(f"{path}: has fractional values, expected integer instance numbers")
    return values


def _require_finite(values: np.ndarray, path: Path) -> None:
    try:
        require_finite(values)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


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
