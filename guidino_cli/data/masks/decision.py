"""Decide what the values of a folder of masks mean: one rule for all, or an error with the reason and a remedy."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from guidino_cli.data.masks.ambiguity import (
    MAX_CLASSES,
    OPTIONS_HINT,
    ambiguity_error,
    disagreeing_values_error,
    has_soft_edges,
    lossy_classes_error,
    not_masks_error,
    several_readings_error,
    suggest_colour_classes,
    suggest_grey_classes,
)
from guidino_cli.data.masks.palettes import check_palettes, describe_background
from guidino_cli.data.masks.rule import Code, MaskRule, format_values, grey_codes, has_colours, pack_colour
from guidino_cli.data.masks.values import HIGH_CLUSTER_MIN, LOW_CLUSTER_MAX, MAX_STORED, Histogram
from guidino_cli.errors import DataError
from guidino_cli.progress import pluralize

LOSSY_MIDDLE_SHARE = 0.01
"""Share of pixels between the clusters that a lossy file may have. Binary masks saved as JPEG of quality 30 have up to
0.6 % there and a threshold of 127 still returns every pixel; Kvasir-SEG, quality 90 and more, has none."""


def decide_mask_rule(
    histograms: Sequence[Histogram],
    *,
    class_count: int | None = None,
    codes: Mapping[Code, int] | None = None,
    binary: bool = False,
    threshold: float | None = None,
) -> MaskRule:
    """Decide, once for a whole folder, what the values of its masks mean.

    The values of all masks are considered together, so that an empty mask or one that lacks a class changes nothing.

    Args:
        histograms: One per mask, at least one.
        class_count: Number of classes the user named, background included.
        codes: The user's table from value or colour to class index; overrides everything else.
        binary: The user declares every value but 0 foreground (instance maps, odd values).
        threshold: The user declares values above this foreground.

    Raises:
        DataError: The values allow several readings or none; lists files, values and the option that decides.
    """
    if not histograms:
        raise DataError("no masks to look at")
    if codes is not None:
        return _decide_codes(histograms, codes)
    check_palettes(histograms, binary=binary)
    rule = _decide_values(histograms, class_count=class_count, binary=binary, threshold=threshold)
    remarks = [remark for remark in (describe_background(histograms), describe_rounding(histograms)) if remark]
    return replace(rule, why="; ".join([rule.why, *remarks]))


def describe_rounding(histograms: Sequence[Histogram]) -> str:
    """Remark on labels that were stored as fractions close to whole numbers; "" if there are none."""
    rounded = [item for item in histograms if item.rounding]
    if not rounded:
        return ""
    largest = max(rounded, key=lambda item: item.rounding)
    return f"labels up to {largest.rounding:.1g} off whole numbers are rounded ({largest.name})"


def list_present(histograms: Sequence[Histogram]) -> str:
    """The whole values that occur, with a remark if 0, the background, does not."""
    present = sorted({int(value) for item in histograms if item.kind != "float" for value in item.values})
    return format_values(present) + ("" if 0 in present else " (no pixel is 0, the background)")


def _decide_values(
    histograms: Sequence[Histogram], *, class_count: int | None, binary: bool, threshold: float | None
) -> MaskRule:
    if binary:
        return MaskRule("nonzero", "--binary was given", 2)
    colours = [item for item in histograms if item.kind == "colour"]
    if colours:
        return _decide_colours(histograms, colours)
    if threshold is not None:
        return MaskRule("threshold", f"--threshold {threshold:g} was given", 2, threshold)
    return _decide_grey(histograms, class_count)


def _decide_grey(histograms: Sequence[Histogram], class_count: int | None) -> MaskRule:
    floats = [item for item in histograms if item.kind == "float"]
    if floats:
        hint = "--threshold 0.5 makes probabilities a mask"
        raise ambiguity_error(floats, "masks with fractional values", hint, option="--threshold 0.5")
    grey = [item for item in histograms if item.kind == "grey"]
    present = sorted({int(value) for item in grey for value in item.values})
    if any(value < 0 for value in present):
        negative = [item for item in grey if item.values[0] < 0]
        raise ambiguity_error(negative, "masks with negative values", "map them with --classes '-1=background,...'")
    foreground = [value for value in present if value]
    of_how_many = "1 mask holds" if len(histograms) == 1 else f"{len(histograms)} masks hold"
    if not foreground:
        why = (
            f"{pluralize(len(histograms), 'mask')} of 1 bit"
            if any(len(item.values) > 1 for item in histograms)
            else "every mask is empty"
        )
        return MaskRule("nonzero", why, class_count or 2)
    if class_count is not None and class_count > 2:
        return _decide_named_indices(grey, class_count, of_how_many)
    lossy = [item for item in grey if item.is_lossy and any(0 < value < HIGH_CLUSTER_MIN for value in item.values)]
    if len(foreground) == 1 and not lossy:
        return MaskRule("nonzero", f"{of_how_many} only {list_present(grey)}", 2)
    if (
        all(value <= LOW_CLUSTER_MAX or value >= HIGH_CLUSTER_MIN for value in _values_outside_middle(grey))
        and foreground[-1] >= HIGH_CLUSTER_MIN
    ):
        return _decide_two_clusters(grey, foreground, of_how_many)
    return _decide_indices(grey, foreground, class_count, of_how_many)


def _values_outside_middle(grey: Sequence[Histogram]) -> set[int]:
    """All values except the few middle ones that compression may leave in a lossy file."""
    kept: set[int] = set()
    for item in grey:
        tolerated = item.is_lossy and item.middle_share <= LOSSY_MIDDLE_SHARE
        kept.update(
            int(value) for value in item.values if not (tolerated and LOW_CLUSTER_MAX < value < HIGH_CLUSTER_MIN)
        )
    return kept


def _decide_two_clusters(grey: Sequence[Histogram], foreground: list[int], of_how_many: str) -> MaskRule:
    """Decide on values near 0 and near 255: compression noise, a label map with an odd value, or two kinds of file."""
    if foreground[-1] > 255:
        raise ambiguity_error(
            [item for item in grey if item.values[-1] > 255],
            "masks with values above 255",
            f"{suggest_grey_classes(foreground)}{OPTIONS_HINT}",
        )
    low, high = (
        max(v for v in [0, *foreground] if v <= LOW_CLUSTER_MAX),
        min(v for v in foreground if v >= HIGH_CLUSTER_MIN),
    )
    noisy = any(item.is_lossy for item in grey) or sum(value >= HIGH_CLUSTER_MIN for value in foreground) > 1
    if low == 0 or noisy:
        middle = max(item.middle_share for item in grey)
        rest = f", and at most {max(middle, 1e-4):.2%} of a file between them" if middle else ", and none between them"
        why = f"{of_how_many} values 0..{low} and {high}..255{rest}: a binary mask with compression noise"
        return MaskRule("threshold", why, 2, 127.0)
    if all(len([value for value in item.values if value]) <= 1 for item in grey):
        raise disagreeing_values_error(grey)
    few = [item for item in grey if any(0 < value <= LOW_CLUSTER_MAX for value in item.values)]
    hint = (
        "255 beside indices often means 'ignore': map every value with --classes '0=background,1=...', or "
        + OPTIONS_HINT
    )
    raise ambiguity_error(few, "masks with small indices and 255", hint)


def _decide_indices(
    grey: Sequence[Histogram], foreground: list[int], class_count: int | None, of_how_many: str
) -> MaskRule:
    """Decide on several values outside two clusters: class indices if few and small, otherwise the user must say."""
    _refuse_outliers(grey, foreground)
    if class_count == 2:
        several = [item for item in grey if any(value != foreground[0] for value in item.values if value)]
        problem = (
            "two classes are named (by --classes or by the layout), "
            f"but masks with values {format_values([0, *foreground])}"
        )
        hint = f"{suggest_grey_classes(foreground)}{OPTIONS_HINT}"
        raise several_readings_error(several, grey, problem, hint)
    lossy = [item for item in grey if item.is_lossy and any(item.values)]
    if lossy:
        raise ambiguity_error(
            lossy,
            "lossy masks that are neither near 0 nor near 255",
            "--threshold 127, or lossless files",
            option="--threshold 127",
        )
    if foreground[-1] < MAX_CLASSES:
        return _index_rule(grey, foreground[-1] + 1, of_how_many)
    if all(len([value for value in item.values if value]) <= 1 for item in grey):
        raise disagreeing_values_error(grey)
    if max(item.distinct for item in grey) > MAX_CLASSES or len(foreground) > MAX_CLASSES:
        odd = [item for item in grey if item.distinct > MAX_CLASSES or item.middle_share > 0] or list(grey)
        odd.sort(key=lambda item: -item.distinct)
        problem = "masks with many values" + ("" if has_soft_edges(grey) else " (instance maps? grey images?)")
        raise several_readings_error(odd, grey, problem, OPTIONS_HINT)
    odd = [item for item in grey if any(value >= MAX_CLASSES for value in item.values)]
    hint = f"{suggest_grey_classes(foreground)}{OPTIONS_HINT}"
    raise ambiguity_error(odd, "masks with values that are no class indices", hint)


def _refuse_outliers(grey: Sequence[Histogram], foreground: list[int]) -> None:
    """Refuse the few files with values between the clusters where all others are binary."""
    odd = [
        item
        for item in grey
        if any(LOW_CLUSTER_MAX < value < HIGH_CLUSTER_MIN for value in _values_outside_middle([item]))
    ]
    rest = [item for item in grey if item not in odd]
    if odd and any(value >= HIGH_CLUSTER_MIN for item in rest for value in item.values):
        problem = (
            f"{len(odd)} of {len(grey)} masks, which hold values between {LOW_CLUSTER_MAX} and "
            f"{HIGH_CLUSTER_MIN} where the others do not,"
        )
        raise several_readings_error(odd, grey, problem, f"{suggest_grey_classes(foreground)}{OPTIONS_HINT}")


def _decide_named_indices(grey: Sequence[Histogram], class_count: int, of_how_many: str) -> MaskRule:
    """Check that every value is the index of one of the classes, more than two, that the user named."""
    beyond = [item for item in grey if item.values[-1] >= class_count]
    if any(item.is_lossy for item in beyond):
        raise lossy_classes_error(beyond, class_count)
    if beyond:
        problem = f"{class_count} classes are named, so masks with values above {class_count - 1}"
        values = sorted({int(value) for item in grey for value in item.values if value})
        raise ambiguity_error(beyond, problem, f"{suggest_grey_classes(values)}{OPTIONS_HINT}")
    return _index_rule(grey, class_count, of_how_many)


def _index_rule(grey: Sequence[Histogram], class_count: int, of_how_many: str) -> MaskRule:
    absent = sorted(set(range(1, class_count)) - {int(value) for item in grey for value in item.values})
    missing = f" (no pixel has {format_values(absent)})" if absent else ""
    return MaskRule("index", f"{of_how_many} only {list_present(grey)}{missing}", class_count)


def _decide_codes(histograms: Sequence[Histogram], codes: Mapping[Code, int]) -> MaskRule:
    rule = MaskRule("codes", "the table was given", max(codes.values()) + 1, codes=tuple(codes.items()))
    known = set(grey_codes(rule)) if not has_colours(rule) else {pack_colour(code) for code in codes}
    for item in histograms:
        values = set(item.values)
        if item.kind == "bool":
            continue
        if has_colours(rule) and item.kind != "colour":
            values = {int(value) * 0x010101 for value in values}
        unknown = sorted(values - known)
        if item.kind == "colour" and not has_colours(rule):
            raise DataError(
                f"{item.name}: is a colour mask, but --classes gives grey values; {suggest_colour_classes([item])}"
            )
        if unknown:
            shown = format_values([f"#{int(value):06x}" if has_colours(rule) else value for value in unknown])
            raise DataError(f"{item.name}: has values {shown} that --classes does not name; add them")
    return rule


def _decide_colours(histograms: Sequence[Histogram], colours: Sequence[Histogram]) -> MaskRule:
    """Decide on colour masks: black and one colour is a binary mask; more colours need a table."""
    found = {int(value) for item in colours for value in item.values}
    grey = {int(value) for item in histograms if item.kind == "grey" for value in item.values}
    if max(item.distinct for item in colours) > MAX_STORED or any(item.is_lossy for item in colours):
        raise not_masks_error(colours, len(histograms))
    if len(found - {0}) == 1 and 0 in found and grey <= {0}:
        return MaskRule("nonzero", f"{len(histograms)} masks hold only black and #{max(found):06x}", 2)
    raise ambiguity_error(colours, f"colour masks with {len(found)} colours", suggest_colour_classes(colours))
