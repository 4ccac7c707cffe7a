"""Read predicted and true masks: one rule for each folder, and an error for every file that breaks it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from guidino_cli.data.masks.decision import LOSSY_MIDDLE_SHARE, decide_mask_rule
from guidino_cli.data.masks.rule import Code, MaskRule, apply_mask_rule
from guidino_cli.data.masks.values import (
    HIGH_CLUSTER_MIN,
    LOSSY_SUFFIXES,
    LOW_CLUSTER_MAX,
    Histogram,
    compute_histogram,
)
from guidino_cli.data.readers import read_labels
from guidino_cli.data.volumes import is_volume
from guidino_cli.errors import DataError
from guidino_cli.evaluation.cases import Truth, TruthSet
from guidino_cli.evaluation.names import file_stem, strip_suffixes
from guidino_cli.evaluation.truths import find_truths
from guidino_cli.progress import pluralize
from guidino_cli.types import width_by_height

_SAMPLE = 48
"""Masks looked at before the rule is made. Later masks are checked against it while they are read; one that shows a new
value makes the rule be made again from all of them."""


class UnexpectedValueError(Exception):
    """A mask holds a value that no mask of the sample had."""


@dataclass(frozen=True)
class Mask:
    """One mask as class indices.

    Attributes:
        labels: uint8 class indices, two or three axes.
        ignored: Boolean, pixels that do not count; None without an ignore label.
        spacing_mm: Voxel size along each axis, None for images.
        affine: (4, 4) of a volume, None for images.
        instances: Stored whole numbers where the reader keeps them, else None.
    """

    labels: np.ndarray
    ignored: np.ndarray | None = None
    spacing_mm: tuple[float, ...] | None = None
    affine: np.ndarray | None = None
    instances: np.ndarray | None = None


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about the values of the masks on one side; see `data.masks.decision.decide`."""

    class_count: int | None = None
    codes: tuple[tuple[Code, int], ...] | None = None
    binary: bool = False
    threshold: float | None = None
    ignore: int | None = None
    instances: bool = False


@dataclass(frozen=True)
class MaskReader:
    """How every mask of one side is read.

    Attributes:
        rule: From values to class indices.
        values: The values the rule was made from, or None if it may be trusted with any value it accepts.
        ignore: Stored value of pixels that do not count.
        instances: Keep the stored values too, as instance numbers.
    """

    rule: MaskRule
    values: frozenset[int] | None = None
    ignore: int | None = None
    instances: bool = False

    def read(self, path: Path) -> Mask:
        """Read one mask.

        Raises:
            DataError: Unreadable, or a value the rule refuses.
            SurpriseError: A value that was not there when the rule was made.
        """
        values, shape, mask = _stored(path)
        ignored = None
        if self.ignore is not None and values.dtype != bool and values.ndim == 2:
            ignored = (values == self.ignore).reshape(shape)
            values = _without(values, self.ignore)
        if self.values is not None and self._surprises(values, is_lossy=path.suffix.lower() in LOSSY_SUFFIXES):
            raise UnexpectedValueError(str(path))
        try:
            labels = apply_mask_rule(self.rule, values).reshape(shape)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        instances = _instances(values, path).reshape(shape) if self.instances else None
        return replace(mask, labels=labels, ignored=ignored, instances=instances)

    def _surprises(self, values: np.ndarray, *, is_lossy: bool) -> bool:
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


def make_reader(paths: Sequence[Path], options: ReadOptions, *, look_at_all: bool = False) -> MaskReader:
    """Decide how the masks of a folder are to be read.

    Unreadable files are passed over here; reading them again as a case reports them.

    Args:
        paths: All masks of this side.
        options: What the user says about them.
        look_at_all: Read every mask instead of a sample.

    Raises:
        DataError: The values allow more than one reading; or no file can be read.
    """
    sample = list(paths)
    if not look_at_all and len(sample) > _SAMPLE:
        sample = [paths[index * len(paths) // _SAMPLE] for index in range(_SAMPLE)]
    if options.instances:
        return MaskReader(MaskRule("nonzero", "instance maps", 2), None, options.ignore, instances=True)
    is_told = options.binary or options.threshold is not None or options.codes is not None
    histograms, problems = _histograms(sample, options.ignore)
    if not histograms:
        raise DataError(f"none of {pluralize(len(sample), 'mask')} can be read; the first: {problems[0]}")
    class_count = options.class_count
    values = frozenset(int(value) for item in histograms for value in item.values if item.kind != "float")
    if any(is_volume(path) for path in sample) and class_count is None and len(values - {0}) > 1:
        # Volumes carry label values in their own right: there is no 8-bit grey to mistake them for.
        class_count = max(values) + 1
    codes = dict(options.codes) if options.codes else None
    rule = decide_mask_rule(
        histograms, class_count=class_count, codes=codes, binary=options.binary, threshold=options.threshold
    )
    if len(histograms) < len(paths):
        rule = replace(rule, why=f"{rule.why} (the rest of {len(paths)} is checked on reading)")
    return MaskReader(rule, None if is_told or look_at_all else values, options.ignore)


def index_reader(class_count: int, *, ignore: int | None = None) -> MaskReader:
    """A reader for masks that `guidino prepare` wrote: values are class indices."""
    return MaskReader(MaskRule("index", "prepared by guidino", class_count), None, ignore)


def _histograms(paths: Sequence[Path], ignore: int | None) -> tuple[list[Histogram], list[str]]:
    histograms, problems = [], []
    for path in paths:
        try:
            values, _, _ = _stored(path)
        except DataError as error:
            problems.append(str(error))
            continue
        except MemoryError:
            problems.append(f"{path}: not enough memory to read it")
            continue
        if ignore is not None:
            values = _without(values, ignore)
        histograms.append(compute_histogram(values, name=path.name, is_lossy=path.suffix.lower() in LOSSY_SUFFIXES))
    return histograms, problems


def _stored(path: Path) -> tuple[np.ndarray, tuple[int, ...], Mask]:
    """Values as stored, the shape of the grid, and a mask that knows its grid but not yet its labels.

    The values of a volume come as one long image: three axes mean colours in `data.masks`.
    """
    values, geometry = read_labels(path)
    mask = Mask(np.empty(0, dtype=np.uint8), None, geometry.spacing_mm, geometry.affine)
    if geometry.affine is not None:
        values = values.reshape(geometry.shape[0], -1)
    return values, geometry.shape, mask


def _instances(values: np.ndarray, path: Path) -> np.ndarray:
    if values.ndim == 3:
        packed = values.astype(np.int32)
        return packed[..., 0] << 16 | packed[..., 1] << 8 | packed[..., 2]
    if values.dtype.kind == "f":
        raise DataError(f"{path}: has fractional values, expected whole instance numbers")
    return values


def _without(values: np.ndarray, ignore: int) -> np.ndarray:
    """Grey values with the ignored one as background."""
    if values.dtype == bool or values.ndim == 3:
        return values
    return np.where(values == ignore, values.dtype.type(0), values)


def _holds_only(values: np.ndarray, allowed: frozenset[int]) -> bool:
    known = allowed | {0}
    if values.dtype == np.uint8 and known <= {0, 255}:
        # As signed numbers these are 0 and -1: the ends say it all, and are found several times faster.
        signed = values.view(np.int8)
        return bool(signed.max() <= 0 and signed.min() >= (-1 if 255 in known else 0))
    if values.dtype.kind == "u" and max(known) == len(known) - 1:
        return bool(values.max() <= max(known))
    if len(known) <= 5:
        hit = values == 0
        for value in known - {0}:
            hit |= values == value
        return bool(hit.all())
    return set(np.unique(values).tolist()) <= known


@dataclass(frozen=True)
class ImageMasks:
    """Masks by image.

    Attributes:
        paths: Resolved path of an image -> its mask; images without one are absent.
        reader: How the masks are read.
    """

    paths: dict[Path, Path]
    reader: MaskReader

    def read(self, image: Path, *, size_hw: tuple[int, int]) -> np.ndarray | None:
        """Class indices (H, W) uint8 of an image's mask, or None if the image has none.

        Raises:
            DataError: The mask cannot be read, or is not of the image's size.
        """
        path = self.paths.get(image.resolve())
        if path is None:
            return None
        labels = self.reader.read(path).labels
        if labels.shape != size_hw:
            found, wanted = width_by_height(labels.shape), width_by_height(size_hw)
            raise DataError(f"{path}: is {found} px (width x height), but the image {image.name} is {wanted}")
        return labels


def find_image_masks(images: Sequence[Path], place: Path, *, class_count: int | None) -> ImageMasks:
    """Find the mask of every image.

    Args:
        images: Image files.
        place: Folder of masks, one mask, or a prepared data folder, whose manifest knows its images.
        class_count: Number of classes of a run, or None if nobody knows.

    Raises:
        DataError: No mask fits any image, two fit one, or the values of the masks can be read in more than one way.
    """
    known = find_truths(place, split="all")
    if place.is_file() and len(images) == 1 and known.classes is None:
        found = {images[0].resolve(): known.truths[0].path}
    else:
        by_image = {truth.image.resolve(): truth.path for truth in known.truths if truth.image is not None}
        by_name = _by_name(known)
        found = {path: mask for path in (item.resolve() for item in images) if (mask := _find(path, by_image, by_name))}
    if not found:
        wanted = ", ".join(path.name for path in images[:3])
        raise DataError(f"{place}: no mask has the name of an image; looked for {wanted}")
    return ImageMasks(found, _reader(known, list(found.values()), class_count))


def _by_name(known: TruthSet) -> dict[str, list[Truth]]:
    names: dict[str, list[Truth]] = {}
    for truth in known.truths:
        for short in {short for name in truth.names for short in strip_suffixes(name)}:
            names.setdefault(short, []).append(truth)
    return names


def _find(image: Path, by_image: dict[Path, Path], by_name: dict[str, list[Truth]]) -> Path | None:
    """The mask listed for the image, else the one with its name, else the one with its name without usual endings."""
    if image in by_image:
        return by_image[image]
    for name in strip_suffixes(file_stem(image)):
        candidates = by_name.get(name, [])
        exact = [truth for truth in candidates if name in {known.lower() for known in truth.names}]
        if len(exact or candidates) > 1:
            both = ", ".join(truth.path.name for truth in (exact or candidates)[:3])
            raise DataError(f"{image}: more than one mask has its name ({both}); give the mask itself")
        if candidates:
            return (exact or candidates)[0].path
    return None


def _reader(known: TruthSet, needed: Sequence[Path], class_count: int | None) -> MaskReader:
    """One rule for the whole folder, so that a mask without some class changes nothing."""
    if known.classes is not None:
        return index_reader(len(known.classes))
    paths, options = [truth.path for truth in known.truths], ReadOptions(class_count=class_count)
    reader = make_reader(paths, options)
    if any(_surprises(reader, path) for path in needed):
        return make_reader(paths, options, look_at_all=True)
    return reader


def _surprises(reader: MaskReader, path: Path) -> bool:
    try:
        reader.read(path)
    except UnexpectedValueError:
        return True
    except DataError:  # Said again, with the image's name, when the mask is wanted.
        return False
    return False
