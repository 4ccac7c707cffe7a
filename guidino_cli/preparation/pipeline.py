"""Prepare a data set: inspect files, decide the mask rule, convert masks, split, write."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from guidino_cli.data.cases import IGNORED
from guidino_cli.data.image_writing import write_label_map
from guidino_cli.data.masks.decision import decide_mask_rule
from guidino_cli.data.masks.palettes import describe_background
from guidino_cli.data.masks.rule import MaskRule, apply_mask_rule, default_class_names
from guidino_cli.data.masks.statistics import region_statistics
from guidino_cli.data.masks.values import IgnoredValue
from guidino_cli.errors import DataError
from guidino_cli.preparation.checks import (
    Finding,
    ImageProperties,
    PackedMask,
    ask_orientation,
    check_foreground,
    check_image_properties,
    check_names,
    check_pair,
    check_swapped_names,
    inspect_image,
    inspect_masks,
    is_orientation_clear,
)
from guidino_cli.preparation.drawing import (
    ClassMap,
    DrawnMask,
    describe_drawings,
    draw_pair,
    drawn_rule,
    map_classes,
)
from guidino_cli.preparation.duplicates import connected_components, find_exact_duplicates, find_near_duplicates
from guidino_cli.preparation.ignoring import describe_ignored, find_ignored, refuse_lossy_masks
from guidino_cli.preparation.mask_audit import MaskStatistics, find_suspicious_masks
from guidino_cli.preparation.merging import ask_to_merge, describe_merging, merge_masks
from guidino_cli.preparation.options import PreparationConfig
from guidino_cli.preparation.problems import raise_on_problems
from guidino_cli.preparation.report import DatasetSummary, describe_missing_classes, tabulate_values
from guidino_cli.preparation.separation import split_without_leaks
from guidino_cli.preparation.types import DiscoveredDataset, ImageMaskPair, map_in_threads
from guidino_cli.preparation.writing import write_dataset
from guidino_cli.types import Case


@dataclass(frozen=True)
class InspectedPair:
    """Properties of a pair's files, and its findings; usable only without findings."""

    pair: ImageMaskPair
    images: list[ImageProperties]
    masks: list[PackedMask]
    findings: list[Finding]
    drawing: DrawnMask | None = None


def prepare_dataset(
    source: Path, dataset: DiscoveredDataset, config: PreparationConfig, folder: Path | None
) -> tuple[DatasetSummary, list[Finding]]:
    """Prepare a data set.

    Args:
        source: Folder or CSV file, for messages.
        dataset: The files to prepare.
        config: Validated options.
        folder: Folder to write, or None to write nothing.

    Returns:
        The summary, and the findings about bad cases that were skipped.

    Raises:
        DataError: Problems that the options do not allow to skip.
    """
    config = config.with_ignore_label(dataset.ignore_label)
    findings = check_names(dataset, allow_unpaired=config.options.allow_unpaired)
    findings += refuse_lossy_masks(dataset.pairs, config.ignore)
    if dataset.needs_merging and not config.options.merge_masks:
        findings.append(ask_to_merge(dataset.pairs))
    classes: ClassMap | None = None
    if dataset.is_drawn:
        classes, remarks = map_classes(dataset, config)
        findings += remarks
    codes = config.classes.codes if config.classes else None
    in_colour = any(isinstance(code, tuple) for code in codes or ())
    exif = config.options.exif
    inspected = map_in_threads(
        lambda pair: (
            _inspect(pair, in_colour=in_colour, turn_masks=exif == "ignore", ignore=config.ignore)
            if classes is None
            else _draw(pair, classes, turn_masks=exif == "ignore")
        ),
        dataset.pairs,
        "checking",
    )
    findings += [finding for item in inspected for finding in item.findings]
    good = [item for item in inspected if not item.findings]
    unclear = [item.pair.images[0] for item in good if not _is_orientation_clear(item)]
    if unclear and exif is None:
        findings.append(ask_orientation(unclear))
    if not good:
        raise_on_problems(source, [*findings, Finding("error", f"{source}: no usable pair of image and mask")], config)
    try:
        rule = _decide_rule(good, dataset, config) if classes is None else drawn_rule(classes)
    except DataError as error:
        raise_on_problems(source, [*findings, Finding("error", str(error))], config)
        raise
    raise_on_problems(source, findings, config)
    converted = map_in_threads(lambda item: _convert_masks(item, rule, folder), good, "converting masks")
    findings += [result for result in converted if isinstance(result, Finding)]
    masks = {item.pair.id: mask for item, mask in zip(good, converted, strict=True) if not isinstance(mask, Finding)}
    pixels = {case: _count_pixels(mask) for case, mask in masks.items()}
    raise_on_problems(source, findings, config)
    good = [item for item in good if item.pair.id in pixels]
    properties = {item.pair.id: item.images[0] for item in good}
    findings += check_image_properties(properties) + check_foreground(pixels)
    findings += check_swapped_names([item.pair for item in good])
    findings += describe_merging([(item.pair, item.masks) for item in good], rule)
    findings += describe_drawings([(item.pair, item.drawing) for item in good if item.drawing is not None])
    findings += describe_ignored([mask.ignored for mask in masks.values()], config.ignore)
    duplicates = _find_duplicates(good)
    splits = split_without_leaks([item.pair for item in good], duplicates, dataset, config)
    cases = [
        _make_case(pair, properties[pair.id], pixels[pair.id], folder, copy=config.options.copy)
        for pair in splits.pairs
    ]
    if config.ignore is not None:
        cases = [replace(case, ignore_label=IGNORED) for case in cases]
    findings += [Finding("warning", text) for text in splits.warnings]
    findings += [Finding("note", text) for text in splits.notes]
    background = "" if codes else describe_background([mask.histogram for item in good for mask in item.masks])
    findings += [Finding("warning", background)] if background else []
    names = _class_names(rule, dataset, config) if classes is None else classes.names
    summary = DatasetSummary(
        name=config.name,
        layout=f"{dataset.layout}: {dataset.evidence}",
        mask_rule=rule.sentence,
        split_rule=splits.rule,
        classes=names,
        cases=cases,
        pixels=pixels,
        values=tabulate_values([mask.histogram for item in good for mask in item.masks]),
        duplicates=duplicates,
        suspicions=find_suspicious_masks({case: mask.statistics for case, mask in masks.items()}, names),
        warnings=[finding.text for finding in findings if finding.kind in {"warning", "bad"}],
        notes=[finding.text for finding in findings if finding.kind == "note"],
    )
    summary = replace(summary, warnings=[*summary.warnings, *describe_missing_classes(summary)])
    if folder is not None:
        write_dataset(summary, folder, dataset, rule, config, {item.pair.id: item.pair for item in good})
    return summary, [finding for finding in findings if finding.kind == "bad"]


def _inspect(pair: ImageMaskPair, *, in_colour: bool, turn_masks: bool, ignore: IgnoredValue | None) -> InspectedPair:
    findings: list[Finding] = []
    images: list[ImageProperties] = []
    packed: list[PackedMask] = []
    try:
        images = [inspect_image(path) for path in pair.images]
    except DataError as error:
        findings.append(Finding("bad", str(error), pair.id))
    orientation = images[0].orientation if images and turn_masks else 1
    try:
        packed = inspect_masks(pair.masks, in_colour=in_colour, orientation=orientation, ignore=ignore)
    except DataError as error:
        findings.append(Finding("bad", str(error), pair.id))
    if not findings:
        findings = check_pair(pair, images, packed)
    return InspectedPair(pair, images, packed, findings)


def _is_orientation_clear(item: InspectedPair) -> bool:
    drawing = item.pair.drawing
    if drawing is not None and not drawing.regions:
        return True
    has_size = drawing is None or drawing.size_hw is not None
    return is_orientation_clear(item.images[0], item.masks, has_size=has_size)


def _draw(pair: ImageMaskPair, classes: ClassMap, *, turn_masks: bool) -> InspectedPair:
    """Inspect the image of a pair and draw its mask from a label file."""
    images: list[ImageProperties] = []
    try:
        images = [inspect_image(path) for path in pair.images]
        drawing = draw_pair(pair, images[0], classes.indices, as_stored=turn_masks)
    except DataError as error:
        return InspectedPair(pair, images, [], [Finding("bad", str(error), pair.id)])
    return InspectedPair(pair, images, [drawing.mask], check_pair(pair, images, [drawing.mask]), drawing)


def _decide_rule(good: Sequence[InspectedPair], dataset: DiscoveredDataset, config: PreparationConfig) -> MaskRule:
    """Decide the mask rule of the whole data set; it must fit the named classes."""
    named = config.classes.names if config.classes else dataset.class_names
    codes = config.classes.codes if config.classes else None
    rule = decide_mask_rule(
        [mask.histogram for item in good for mask in item.masks],
        class_count=len(named) if named else None,
        codes=codes,
        binary=config.options.binary,
        threshold=config.options.threshold,
    )
    if named and codes is None and rule.class_count != len(named):
        text = f"{len(named)} classes are named, the masks hold {rule.class_count} ({rule.why})"
        raise DataError(f"{text}; name all with --classes, or map values: --classes '0=background,255=polyp'")
    return rule


class _Converted(NamedTuple):
    """Statistics of a converted mask."""

    statistics: MaskStatistics
    ignored: int
    """Pixels that do not count; they are background in the statistics."""


def _convert_masks(item: InspectedPair, rule: MaskRule, folder: Path | None) -> _Converted | Finding:
    """Write one class-index mask; returns what is known of it, or the problem."""
    try:
        labels = merge_masks([apply_mask_rule(rule, mask.values()) for mask in item.masks])
    except DataError as error:
        return Finding("bad", f"{item.pair.masks[0]}: {error}", item.pair.id)
    ignored = find_ignored(item.masks, labels)
    if folder is not None:
        write_label_map(folder / "masks" / f"{item.pair.id}.png", np.where(ignored, IGNORED, labels))
    return _Converted(region_statistics(labels, rule.class_count), int(np.count_nonzero(ignored)))


def _count_pixels(mask: _Converted) -> np.ndarray:
    """Pixels of each class that count, (K,)."""
    pixels = np.array([region.pixels for region in mask.statistics])
    pixels[0] -= mask.ignored
    return pixels


def _find_duplicates(good: Sequence[InspectedPair]) -> list[list[str]]:
    images = [item.images[0] for item in good]
    hashes, small = np.stack([image.dhash for image in images]), np.stack([image.small for image in images])
    pairs = find_exact_duplicates([image.record.sha256 for image in images]) + find_near_duplicates(hashes, small)
    return connected_components([item.pair.id for item in good], pairs)


def _make_case(
    pair: ImageMaskPair, properties: ImageProperties, pixels: np.ndarray, folder: Path | None, *, copy: bool
) -> Case:
    """Make the manifest entry, with paths in the folder being built."""
    image = pair.images[0]
    if folder is not None and len(pair.images) > 1:
        image = folder / "images" / f"{pair.id}.png"
    elif folder is not None and copy:
        image = folder / "images" / f"{pair.id}{image.suffix.lower()}"
    return Case(
        id=pair.id,
        image=image,
        mask=(folder or Path()) / "masks" / f"{pair.id}.png",
        split=pair.split or "train",
        fold=pair.fold,
        group=pair.group or pair.id,
        size_hw=properties.size_hw,
        # Significant digits, not decimals: one pixel of a large image is foreground, too.
        foreground=float(f"{pixels[1:].sum() / math.prod(properties.size_hw):.6g}"),
        fields=pair.fields | ({"stratum": pair.stratum} if pair.stratum else {}),
        image_record=properties.record if len(pair.images) == 1 else None,
    )


def _class_names(rule: MaskRule, dataset: DiscoveredDataset, config: PreparationConfig) -> tuple[str, ...]:
    if config.classes is not None:
        return config.classes.names
    return dataset.class_names or default_class_names(rule.class_count)
