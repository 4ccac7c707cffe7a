"""Why a folder of masks cannot be read, in words: the files, their values, and the option that settles it."""

from collections import Counter
from collections.abc import Sequence

from guidino_cli.data.masks.rule import in_words
from guidino_cli.data.masks.values import Histogram
from guidino_cli.errors import DataError

MAX_CLASSES = 16
"""Label maps with more values than this may as well be instance maps; the user must say."""
ASK = "--binary makes every value but 0 foreground, --threshold N every value above N"
_SHOWN = 10
_SMEARED = 16
"""How far JPEG moves many of a mask's values."""


def refusal(items: Sequence[Histogram], found: str, hint: str) -> DataError:
    """An error that lists up to ten files with their values."""
    lines = [f"{item.name} ({item.distinct} values: {_shown_values(item)})" for item in items[:_SHOWN]]
    more = f", and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return DataError(f"{found} cannot be read one way only; {hint}. Files: {', '.join(lines)}{more}")


def disagreement(grey: Sequence[Histogram]) -> DataError:
    """Every file is binary, but not with the same value."""
    kinds: dict[int | float, list[Histogram]] = {}
    for item in grey:
        if any(item.values):
            kinds.setdefault(max(item.values), []).append(item)
    common = max(kinds, key=lambda value: len(kinds[value]))
    odd = [item for value, items in kinds.items() if value != common for item in items]
    found = f"masks disagree: {len(kinds[common])} hold 0 and {common}, {len(odd)} another value; the folder"
    return refusal(odd, found, "--binary makes every value but 0 foreground")


def no_masks(colours: Sequence[Histogram], count: int) -> DataError:
    """Photographs, or masks whose colours a lossy format has smeared: nothing that could be typed reads them."""
    worst = max(colours, key=lambda item: item.distinct)
    others = f" (one of {len(colours)} such files of {count})" if len(colours) > 1 else ""
    return DataError(
        f"{worst.name}: has 3 channels and {worst.distinct:,} colours, as a photograph has{others}; expected a mask: "
        "class indices, or 0 and 255, or a few flat colours; give the folder of the masks in its place, or save colour "
        "masks as lossless PNG"
    )


def smeared_classes(items: Sequence[Histogram], class_count: int) -> DataError:
    """Lossy files hold many values around those that were drawn, so that no table of values reads them."""
    totals = _totals(items)
    peaks: list[int | float] = []
    for value in sorted(totals, key=lambda value: -totals[value]):
        if all(abs(value - peak) > _SMEARED for peak in peaks) and len(peaks) < class_count:
            peaks.append(value)
    hint = "save the masks as lossless PNG; to tell foreground from background alone, name two classes"
    found = f"{class_count} classes are named, but lossy masks with values around {in_words(sorted(peaks))}"
    return refusal(items[:1], found, f"{hint} and give --threshold")


def colour_option(colours: Sequence[Histogram]) -> str:
    """The found colours as an option to paste, most frequent first (usually the background)."""
    totals = _totals(colours)
    ranked = sorted(totals, key=lambda value: (value != 0, -totals[value]))[: MAX_CLASSES + 1]
    names = ["background", *(f"class_{index}" for index in range(1, len(ranked)))]
    table = ",".join(f"#{int(value):06x}={name}" for value, name in zip(ranked, names, strict=True))
    return f"name them: --classes '{table}'"


def grey_option(foreground: list[int]) -> str:
    """The found grey values as an option to paste, or nothing if there are too many."""
    if len(foreground) > MAX_CLASSES:
        return ""
    names = ",".join(f"{value}=class_{index}" for index, value in enumerate(foreground, start=1))
    return f"--classes '0=background,{names}' names them, "


def _shown_values(item: Histogram) -> str:
    return in_words([f"#{int(value):06x}" if item.kind == "colour" else value for value in item.values])


def _totals(items: Sequence[Histogram]) -> Counter[int | float]:
    """Pixels of all files with each value."""
    totals: Counter[int | float] = Counter()
    for item in items:
        totals.update(dict(zip(item.values, item.counts, strict=True)))
    return totals
