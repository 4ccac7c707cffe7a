"""Errors for masks whose values cannot be read unambiguously: what was found, and the option that would read it."""

from collections import Counter
from collections.abc import Sequence

from guidino_cli.data.masks.rule import format_values
from guidino_cli.data.masks.values import HIGH_CLUSTER_MIN, LOW_CLUSTER_MAX, Histogram
from guidino_cli.errors import DataError

MAX_CLASSES = 16
"""Label maps with more values than this might be instance maps; the user has to decide."""
OPTIONS_HINT = "--binary makes every value but 0 foreground, --threshold N every value above N"
_MAX_LISTED = 10
_JPEG_SPREAD = 16
"""Distance by which JPEG moves many of a mask's values."""


def ambiguity_error(items: Sequence[Histogram], problem: str, hint: str, *, option: str = "") -> DataError:
    """Error for values with several readings; lists up to ten files with their values.

    Args:
        items: The files.
        problem: What they are.
        hint: What helps.
        option: Option that reads them as they were most likely meant, see `UserError`.
    """
    lines = [f"{item.name} ({item.distinct} values: {_format_values(item)})" for item in items[:_MAX_LISTED]]
    more = f", and {len(items) - _MAX_LISTED} more" if len(items) > _MAX_LISTED else ""
    error = DataError(f"{problem} cannot be read unambiguously; {hint}. Files: {', '.join(lines)}{more}")
    error.option = option
    return error


_SOFT_VALUES = 8
"""Different values between the clusters below which they are more likely classes than soft edges."""


def has_soft_edges(grey: Sequence[Histogram]) -> bool:
    """Whether masks are binary except for smoothed or compressed edges.

    More than half of their foreground is then near 255, and the rest has more different values than classes would.
    """
    between = {value for item in grey for value in item.values if LOW_CLUSTER_MAX < value < HIGH_CLUSTER_MIN}
    if len(between) < _SOFT_VALUES:
        return False
    bright = total = 0
    for item in grey:
        pixels = [(value, count) for value, count in zip(item.values, item.counts, strict=True) if value]
        total += sum(count for _, count in pixels)
        bright += sum(count for value, count in pixels if HIGH_CLUSTER_MIN <= value <= 255)
    return 2 * bright > total


def several_readings_error(odd: Sequence[Histogram], grey: Sequence[Histogram], problem: str, hint: str) -> DataError:
    """Error for more values than classes: soft edges are cut in the middle, anything else the user must know."""
    if not has_soft_edges(grey):
        return ambiguity_error(odd, problem, hint)
    cut = "edges are soft or compressed: --threshold 127 cuts them in the middle; --binary would count their rims, too"
    return ambiguity_error(odd, problem, cut, option="--threshold 127")


def disagreeing_values_error(grey: Sequence[Histogram]) -> DataError:
    """Error for masks that are all binary, but with different foreground values."""
    kinds: dict[int | float, list[Histogram]] = {}
    for item in grey:
        if any(item.values):
            kinds.setdefault(max(item.values), []).append(item)
    common = max(kinds, key=lambda value: len(kinds[value]))
    odd = [item for value, items in kinds.items() if value != common for item in items]
    problem = f"masks disagree: {len(kinds[common])} hold 0 and {common}, {len(odd)} another value; the folder"
    return ambiguity_error(odd, problem, "--binary makes every value but 0 foreground", option="--binary")


def not_masks_error(colours: Sequence[Histogram], count: int) -> DataError:
    """Error for photographs and for colour masks in a lossy format, which no option can read."""
    worst = max(colours, key=lambda item: item.distinct)
    others = f" (one of {len(colours)} such files of {count})" if len(colours) > 1 else ""
    return DataError(
        f"{worst.name}: has 3 channels and {worst.distinct:,} colours, as a photograph has{others}; expected a mask: "
        "class indices, or 0 and 255, or a few flat colours; give the folder of the masks in its place, or save colour "
        "masks as lossless PNG"
    )


def lossy_classes_error(items: Sequence[Histogram], class_count: int) -> DataError:
    """Error for masks of several classes in a lossy format, whose many values no table can cover."""
    totals = _pixels_by_value(items)
    peaks: list[int | float] = []
    for value in sorted(totals, key=lambda value: -totals[value]):
        if all(abs(value - peak) > _JPEG_SPREAD for peak in peaks) and len(peaks) < class_count:
            peaks.append(value)
    hint = "save the masks as lossless PNG; to tell foreground from background alone, name two classes"
    problem = f"{class_count} classes are named, but lossy masks with values around {format_values(sorted(peaks))}"
    return ambiguity_error(items[:1], problem, f"{hint} and give --threshold")


def suggest_colour_classes(colours: Sequence[Histogram]) -> str:
    """Format the found colours as a `--classes` option to paste, most frequent first (usually the background)."""
    totals = _pixels_by_value(colours)
    ranked = sorted(totals, key=lambda value: (value != 0, -totals[value]))[: MAX_CLASSES + 1]
    names = ["background", *(f"class_{index}" for index in range(1, len(ranked)))]
    table = ",".join(f"#{int(value):06x}={name}" for value, name in zip(ranked, names, strict=True))
    return f"name them: --classes '{table}'"


def suggest_grey_classes(foreground: list[int]) -> str:
    """Format the found grey values as a `--classes` option to paste; "" if there are too many."""
    if len(foreground) > MAX_CLASSES:
        return ""
    names = ",".join(f"{value}=class_{index}" for index, value in enumerate(foreground, start=1))
    return f"--classes '0=background,{names}' names them, "


def _format_values(item: Histogram) -> str:
    return format_values([f"#{int(value):06x}" if item.kind == "colour" else value for value in item.values])


def _pixels_by_value(items: Sequence[Histogram]) -> Counter[int | float]:
    """Count the pixels of all files with each value."""
    totals: Counter[int | float] = Counter()
    for item in items:
        totals.update(dict(zip(item.values, item.counts, strict=True)))
    return totals
