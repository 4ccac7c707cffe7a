"""Compare the palettes of a folder of masks: an index means one class only if it has one colour in all files."""

from collections import Counter
from collections.abc import Sequence

from guidino_cli.data.masks.values import Histogram
from guidino_cli.errors import DataError
from guidino_cli.progress import pluralize

_MAX_LISTED = 20


def check_palettes(histograms: Sequence[Histogram], *, binary: bool = False) -> None:
    """Refuse masks in whose palettes one index has several colours.

    Only indices that occur are compared, so that unused entries may differ.

    Args:
        histograms: One per mask.
        binary: Only index 0 has a meaning (every other value is foreground).

    Raises:
        DataError: An index has several colours; names two files and the option that decides.
    """
    first: dict[int, tuple[int, str]] = {}
    for item in histograms:
        for index, colour in zip(item.values, item.palette, strict=False):
            if binary and index != 0:
                continue
            known, name = first.setdefault(int(index), (colour, item.name))
            if known != colour:
                raise DataError(
                    f"palette index {int(index)} is #{known:06x} in {name} and #{colour:06x} in {item.name}: "
                    f"the same number may mean different classes; {_suggest_colours(histograms)}, "
                    f"or by index in spite of the colours: {_suggest_indices(histograms)}"
                )


def describe_background(histograms: Sequence[Histogram]) -> str:
    """Say which colour palettes give to index 0, the background, if it is not black; otherwise ""."""
    colours = Counter(
        colour
        for item in histograms
        for index, colour in zip(item.values, item.palette, strict=False)
        if index == 0 and colour and item.kind != "bool"
    )
    if not colours:
        return ""
    colour, count = colours.most_common(1)[0]
    return (
        f"index 0, read as background, is #{colour:06x} in the palettes of {pluralize(count, 'mask')}, not black; "
        f"if it is not the background, {_suggest_colours(histograms)}"
    )


def _suggest_colours(histograms: Sequence[Histogram]) -> str:
    """A `--classes` option to paste that names the colours found, black (or else the most frequent) first."""
    pixels: Counter[int] = Counter()
    for item in histograms:
        for colour, count in zip(item.palette, item.counts, strict=False):
            pixels[colour] += count
    ranked = sorted(pixels, key=lambda colour: (colour != 0, -pixels[colour]))[:_MAX_LISTED]
    return f"read them by colour: --classes '{_table([f'#{colour:06x}' for colour in ranked])}'"


def _suggest_indices(histograms: Sequence[Histogram]) -> str:
    indices = sorted({int(index) for item in histograms if item.palette for index in item.values})
    return f"--classes '{_table(indices[:_MAX_LISTED])}'"


def _table(codes: Sequence[object]) -> str:
    names = ["background", *(f"class_{index}" for index in range(1, len(codes)))]
    return ",".join(f"{code}={name}" for code, name in zip(codes, names, strict=False))
