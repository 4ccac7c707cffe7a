"""The values that the masks of a folder hold, and the reader that follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from guidino_cli.data.masks.decision import decide_mask_rule, describe_rounding, list_present
from guidino_cli.data.masks.palettes import check_palettes, describe_background
from guidino_cli.data.masks.rule import MaskRule
from guidino_cli.data.masks.values import LOSSY_SUFFIXES, Histogram, compute_histogram, round_labels
from guidino_cli.data.readers import find_reader, read_palette
from guidino_cli.errors import DataError
from guidino_cli.evaluation.masks import MaskReader, ReadOptions, read_values
from guidino_cli.progress import pluralize

_SAMPLE_SIZE = 48
"""Masks from which the rule is made. Others are checked when they are read; if one has an unexpected value, the rule is
made again from all masks."""


@dataclass(frozen=True)
class Survey:
    """Values found in the masks of one side.

    Attributes:
        histograms: One per mask that was read; unreadable masks are reported when their cases are scored.
        total: Masks of this side.
        is_complete: Whether every mask was read, not a sample.
        has_volumes: Whether a mask is a volume, whose values are labels and no grey values.
    """

    histograms: tuple[Histogram, ...]
    total: int
    is_complete: bool
    has_volumes: bool

    @property
    def foreground(self) -> frozenset[int]:
        """Values other than 0, of masks that hold whole numbers."""
        return frozenset(int(value) for item in self.histograms for value in item.values if item.kind != "float") - {0}

    @property
    def is_label_map(self) -> bool:
        """Whether every value is a label as it stands: whole, not negative, not a colour, and not blurred by JPEG."""
        return all(
            not any(item.values) or (item.kind == "grey" and item.values[0] >= 0 and not item.is_lossy)
            for item in self.histograms
        )


def require_exact_ignored(paths: Sequence[Path], options: ReadOptions) -> None:
    """Require that ignored pixels can be recognised by their value.

    Raises:
        DataError: Some masks were compressed with loss, so around those pixels are others with values near theirs.
    """
    problem = "" if options.ignored is None else options.ignored.describe_lossy(paths)
    if problem:
        raise DataError(problem)


def survey_masks(paths: Sequence[Path], options: ReadOptions, *, read_all: bool = False) -> Survey:
    """Look at the values of the masks of one side, or of a sample of them.

    Raises:
        DataError: No mask can be read, and the options do not say how values are read.
    """
    sample = list(paths)
    if not read_all and len(sample) > _SAMPLE_SIZE:
        sample = [paths[index * len(paths) // _SAMPLE_SIZE] for index in range(_SAMPLE_SIZE)]
    in_colour = any(isinstance(code, tuple) for code, _ in options.codes or ())
    histograms, problems = _read_histograms(sample, options, in_colour=in_colour)
    if not histograms and not (options.binary or options.threshold is not None):
        raise DataError(f"none of {pluralize(len(sample), 'mask')} can be read; the first: {problems[0]}")
    has_volumes = any(find_reader(path).is_volume for path in sample)
    return Survey(tuple(histograms), len(paths), len(sample) == len(paths), has_volumes)


def make_reader(paths: Sequence[Path], options: ReadOptions, *, read_all: bool = False) -> MaskReader:
    """Decide how the masks of a folder are read.

    Args:
        paths: All masks of this side.
        options: Options for their values.
        read_all: Read every mask instead of a sample.

    Raises:
        DataError: The values are ambiguous, or no file can be read.
    """
    if options.instances:
        return MaskReader(MaskRule("nonzero", "instance maps", 2), None, options.ignore, instances=True)
    return decide_reader(survey_masks(paths, options, read_all=read_all), options)


def decide_reader(survey: Survey, options: ReadOptions) -> MaskReader:
    """Decide how the masks of one side are read, from their values alone.

    Raises:
        DataError: The values are ambiguous.
    """
    foreground = survey.foreground
    is_open = not options.is_explicit and options.class_count is None
    if is_open and survey.has_volumes and survey.is_label_map and len(foreground) > 1:
        # Volumes store labels as such: they cannot be mistaken for 8-bit grey values.
        return label_reader(survey, foreground, options)
    codes = dict(options.codes) if options.codes else None
    # An empty mask stands for a folder of which no mask can be read: --binary and --threshold apply all the same.
    rule = decide_mask_rule(
        survey.histograms or (Histogram("", (0,), (1,), 1, "grey"),),
        class_count=options.class_count,
        codes=codes,
        binary=options.binary,
        threshold=options.threshold,
    )
    if len(survey.histograms) < survey.total:
        rule = replace(rule, why=f"{rule.why} (the rest of {survey.total} is checked on reading)")
    values = None if options.is_explicit or survey.is_complete else foreground | {0}
    palette = () if codes is not None else _known_palette(survey, binary=options.binary)
    return MaskReader(rule, values, options.ignore, palette=palette, segment=options.segment)


def _known_palette(survey: Survey, *, binary: bool) -> tuple[tuple[int, int], ...]:
    """Palette indices with a meaning and their colours; none if every mask was read."""
    if survey.is_complete:
        return ()
    colours = {
        int(index): colour
        for item in survey.histograms
        for index, colour in zip(item.values, item.palette, strict=False)
        if index == 0 or not binary
    }
    return tuple(colours.items())


_MAX_LABELS = 512
"""Different labels of a data set; the largest atlases of organs and brains have about 200, instance maps have more."""
_MAX_IMAGE_LABEL = 15
"""Largest value of an image that is taken for a label unasked; larger ones might be grey values."""


def find_common_labels(truth: Survey, predictions: Survey) -> frozenset[int]:
    """Labels that occur on either side, if the masks of both are label maps; else none.

    Label 2 is never compared with label 1, even where each side holds one label only. A single value that can be no
    label of an image (255 beside 1, say) is another way to write a binary mask.

    Raises:
        DataError: Each side holds one value, and whether they mean the same cannot be told.
    """
    true, predicted = truth.foreground, predictions.foreground
    labels = true | predicted
    has_volumes = truth.has_volumes or predictions.has_volumes
    if len(labels) < 2 or not (truth.is_label_map and predictions.is_label_map):
        return frozenset()
    if len(true) == len(predicted) == 1 and _may_both_be_binary(labels, has_volumes=has_volumes):
        return frozenset()
    if not has_volumes and max(labels) > _MAX_IMAGE_LABEL:
        if len(true) == len(predicted) == 1 and min(labels) > 1 and min(labels) <= _MAX_IMAGE_LABEL:
            raise DataError(
                f"the only label of the truth is {max(true)}, of the predictions {max(predicted)}: different "
                "labels, or one mask written in two ways? --binary makes every value but 0 foreground on both sides"
            )
        return frozenset()
    return labels


def _may_both_be_binary(labels: frozenset[int], *, has_volumes: bool) -> bool:
    """Whether two different single values both are usual for the foreground of a binary mask."""
    usual = {1, 255, 65535} if has_volumes else {1, *range(_MAX_IMAGE_LABEL + 1, 65536)}
    return labels <= usual


def label_reader(survey: Survey, labels: frozenset[int], options: ReadOptions) -> MaskReader:
    """Reader of label maps: the labels in ascending order are classes 1, 2, ..., however large their values are.

    Args:
        survey: Values of this side.
        labels: Labels of the data set, without 0.
        options: Options for the values of this side.

    Raises:
        DataError: More labels than any data set of classes has.
    """
    if len(labels) > _MAX_LABELS or any(item.distinct > len(item.values) for item in survey.histograms):
        crowded = max(survey.histograms, key=lambda item: item.distinct)
        raise DataError(
            f"{crowded.name}: has {crowded.distinct:,} labels, expected at most {_MAX_LABELS} classes; for instance "
            "maps give --metrics are,voi, or --binary to score every value but 0 as foreground"
        )
    count = len(survey.histograms)
    found = list_present(survey.histograms)
    rest = "" if count == survey.total else f" (the rest of {survey.total} is checked on reading)"
    why = f"{pluralize(count, 'mask')} {'holds' if count == 1 else 'hold'} only {found}{rest}"
    check_palettes(survey.histograms)
    for note in filter(None, (describe_background(survey.histograms), describe_rounding(survey.histograms))):
        why = f"{why}; {note}"
    codes = tuple((value, index) for index, value in enumerate((0, *sorted(labels))))
    rule = MaskRule("labels", why, len(codes), codes=codes)
    values = None if survey.is_complete else labels | {0}
    palette = _known_palette(survey, binary=False)
    return MaskReader(rule, values, options.ignore, palette=palette, segment=options.segment)


def _read_histograms(
    paths: Sequence[Path], options: ReadOptions, *, in_colour: bool
) -> tuple[list[Histogram], list[str]]:
    histograms, problems = [], []
    for path in paths:
        try:
            values, _, _ = read_values(path, in_colour=in_colour, segment=options.segment)
            palette = None if in_colour else read_palette(path)
        except DataError as error:
            problems.append(str(error))
            continue
        except MemoryError:
            problems.append(f"{path}: not enough memory to read it")
            continue
        values, rounding = round_labels(values) if options.threshold is None else (values, 0.0)
        if options.ignored is not None:
            values = options.ignored.replace(values)
        is_lossy = path.suffix.lower() in LOSSY_SUFFIXES
        found = compute_histogram(values, name=path.name, is_lossy=is_lossy, palette=palette, rounding=rounding)
        histograms.append(found)
    return histograms, problems
