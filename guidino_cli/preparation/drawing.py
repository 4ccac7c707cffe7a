"""Draw the regions of label files as masks, and say which classes they make and what was clipped or covered."""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from guidino_cli.data.images import turn
from guidino_cli.data.label_files.regions import draw_regions
from guidino_cli.data.limits import require_pixels
from guidino_cli.data.masks.rule import MaskRule
from guidino_cli.data.masks.values import compute_histogram
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.options.data import PrepareOptions
from guidino_cli.preparation.checks import Finding, ImageProperties, PackedMask, format_items
from guidino_cli.preparation.label_files.contents import BACKGROUND
from guidino_cli.preparation.options import PreparationConfig
from guidino_cli.preparation.types import DiscoveredDataset, ImageMaskPair
from guidino_cli.progress import join_first, pluralize
from guidino_cli.types import width_by_height

_OF_MASKS = ("instances", "threshold", "ignore_label", "merge_masks", "store", "channels")


class ClassMap(NamedTuple):
    """Classes of a data set of label files."""

    names: tuple[str, ...]
    """By index, background first."""
    indices: dict[str, int]
    """Category -> class index; other categories are left out."""


class DrawnMask(NamedTuple):
    """The mask of an image, and what happened to its regions."""

    mask: PackedMask
    clipped: int
    overlapped: int
    without_outline: int


def refuse_options_of_masks(options: PrepareOptions) -> None:
    """Refuse options that say how to read the values of masks, which label files do not have.

    Raises:
        ConfigError: Names the option.
    """
    defaults = PrepareOptions()
    for name in _OF_MASKS:
        if getattr(options, name) != getattr(defaults, name):
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option}: is for masks, but these are label files; choose categories with --classes")


def map_classes(dataset: DiscoveredDataset, config: PreparationConfig) -> tuple[ClassMap, list[Finding]]:
    """Class index of every category: `--classes` orders and selects; else all, as the label files order them.

    Raises:
        ConfigError: `--classes` gives values, or only names that no category has.
    """
    assert dataset.class_names is not None
    found, categories = Counter(_categories(dataset)), dataset.class_names[1:]
    if config.classes is not None and config.classes.codes is not None:
        raise ConfigError(f"--classes {config.options.classes}: label files have names, such as {categories[0]}")
    names = config.classes.names if config.classes is not None else dataset.class_names
    if config.options.binary:
        names = names if config.classes is not None else ("background", "foreground")
        if len(names) != 2:
            raise ConfigError(f"--binary makes every category one class, but --classes names {len(names)}; name two")
        return ClassMap(names, {BACKGROUND: 0} | dict.fromkeys(categories, 1)), []
    known = {*dataset.class_names, *found}
    absent = [name for name in names[1:] if name not in known]
    problem = f"--classes: no category of the label files is named {join_first(absent)}; they have "
    problem += join_first(list(categories), limit=12)
    if len(absent) == len(names) - 1:
        raise ConfigError(problem)
    left_out = [f"{name} ({pluralize(found[name], 'region')})" for name in categories if name not in names]
    text = f"categories that --classes does not name, left out: {join_first(left_out, limit=12)}"
    findings = [Finding("warning", text)] if left_out else []
    findings += [Finding("warning", problem)] if absent else []
    # Regions of the background cut holes, whatever class 0 is called.
    return ClassMap(names, {BACKGROUND: 0} | {name: index for index, name in enumerate(names)}), findings


def _categories(dataset: DiscoveredDataset) -> list[str]:
    return [region.category for pair in dataset.pairs if pair.drawing for region in pair.drawing.regions]


def drawn_rule(classes: ClassMap) -> MaskRule:
    """The rule of masks that hold class indices because they were drawn so."""
    return MaskRule("index", "drawn from label files, later regions over earlier ones", len(classes.names))


def draw_pair(pair: ImageMaskPair, image: ImageProperties, indices: Mapping[str, int], *, as_stored: bool) -> DrawnMask:
    """Draw the regions of an image.

    Args:
        pair: With a drawing.
        image: Properties of its first image.
        indices: Class index of each category.
        as_stored: Whether regions lie on the image as it is stored, before EXIF turns it.

    Raises:
        DataError: The regions cannot be drawn, or are for an image of another size.
    """
    drawing = pair.drawing
    assert drawing is not None
    is_transposed = as_stored and image.orientation >= 5
    expected = image.size_hw[::-1] if is_transposed else image.size_hw
    size_hw = drawing.size_hw or expected
    if size_hw != expected:
        is_turned = size_hw == expected[::-1]
        turned = " (turned by 90 degrees?)" if is_turned else ""
        if is_turned and image.orientation >= 5 and not as_stored:
            turned = " (turned by EXIF: --exif ignore draws on the stored image)"
        raise DataError(
            f"{drawing.source}: {drawing.place} is {width_by_height(size_hw)} there, the file "
            f"{width_by_height(expected)}{turned}"
        )
    require_pixels(pair.images[0], size_hw)
    labels, *counts = draw_regions(drawing, size_hw, indices)
    labels = np.ascontiguousarray(turn(labels, image.orientation)) if as_stored else labels
    histogram = compute_histogram(labels, name=drawing.source.name)
    data = zlib.compress(labels.tobytes(), 1)
    return DrawnMask(PackedMask(data, labels.shape, labels.dtype.str, histogram), *counts)


def describe_drawings(drawn: Sequence[tuple[ImageMaskPair, DrawnMask]]) -> list[Finding]:
    """Say which regions reached beyond their image, where several classes overlap, and which objects are missing."""
    clipped = {pair.id: drawing.clipped for pair, drawing in drawn if drawing.clipped}
    covered = {pair.id: drawing.overlapped for pair, drawing in drawn if drawing.overlapped}
    absent = {pair.id: drawing.without_outline for pair, drawing in drawn if drawing.without_outline}
    findings = []
    if absent:
        count, cases = sum(absent.values()), pluralize(len(absent), "image")
        text = f"{pluralize(count, 'object')} of {cases} without an outline (boxes?), background in the mask"
        findings.append(Finding("warning", f"{text}: {format_items(absent)}"))
    if clipped:
        count, cases = sum(clipped.values()), pluralize(len(clipped), "image")
        done = "reaches outside the image and was clipped" if count == 1 else "reach outside the image and were clipped"
        text = f"{pluralize(count, 'region')} of {cases} {done}"
        findings.append(Finding("warning", f"{text}: {format_items(clipped)}"))
    if covered:
        count, cases = sum(covered.values()), pluralize(len(covered), "image")
        text = f"{pluralize(count, 'pixel')} of {cases} lie in regions of several classes, the later one counts"
        findings.append(Finding("note", f"{text}: {format_items(covered)}"))
    return findings
