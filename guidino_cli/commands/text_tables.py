"""Tables on the terminal in which no number is cut, and sentences wrapped at its width."""

from collections.abc import Sequence
from shutil import get_terminal_size
from textwrap import fill, wrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

Block = tuple[str, Sequence[Sequence[str]]]
"""Name of a group of rows, and the rows."""


def print_wrapped(line: str) -> None:
    """Print a sentence, wrapped between words at the width of the terminal (80 if there is none)."""
    print(
        fill(line, get_terminal_size().columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    )


def print_table(
    headings: Sequence[str], blocks: Sequence[Block], *, several: bool = False, collapse_padding: bool = False
) -> None:
    """Print rows of cells; with several blocks, each has its name above its rows.

    Where the terminal is too narrow, names of the first column are broken, and headings and then cells take several
    lines, between words; a table of numbers that are still too long is wider than the terminal.
    """
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    wide = Console(width=10_000)
    rows = [row for _, rows in blocks for row in rows]
    widths = [_longest([heading, *(row[index] for row in rows)]) for index, heading in enumerate(headings)]
    table = _make_table(headings, blocks, widths, several=several, collapse_padding=collapse_padding)
    total = Measurement.get(wide, wide.options, table).maximum
    if total > console.width:
        widths = _narrow(headings, rows, widths, excess=total - console.width)
    elif several:
        # The names are in the first column, which takes the remaining width.
        widths[0] += min(console.width - total, max(0, _longest([name for name, _ in blocks]) - widths[0]))
    table = _make_table(headings, blocks, widths, several=several, collapse_padding=collapse_padding)
    total = Measurement.get(wide, wide.options, table).maximum
    Console(width=max(total, console.width)).print(table)


_MIN_FIRST = 16
"""Width from which long words of the first column, which holds names and no numbers, are broken."""


def _narrow(headings: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], *, excess: int) -> list[int]:
    """Widths that are smaller by `excess` in sum where possible: names give way first, then headings, then cells."""
    columns = [[row[index] for row in rows] for index in range(len(headings))]
    pairs = list(zip(headings, columns, strict=True))
    by_heading = [_longest([*cells, *heading.split()]) for heading, cells in pairs]
    by_word = [_longest([word for text in (heading, *cells) for word in text.split()]) for heading, cells in pairs]
    narrow = list(widths)
    name = min(widths[0], _MIN_FIRST)
    for floors in ([name, *widths[1:]], [name, *by_heading[1:]], [name, *by_word[1:]]):
        for index in sorted(range(len(narrow)), key=lambda place: floors[place] - narrow[place]):
            step = min(excess, max(0, narrow[index] - floors[index]))
            narrow[index] -= step
            excess -= step
    return narrow


def _longest(texts: Sequence[str]) -> int:
    from rich.cells import cell_len

    return max((cell_len(text) for text in texts), default=1)


def _make_table(
    headings: Sequence[str], blocks: Sequence[Block], widths: Sequence[int], *, several: bool, collapse_padding: bool
) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=collapse_padding)
    for index, (heading, width) in enumerate(zip(headings, widths, strict=True)):
        justify = "right" if index else "left"
        table.add_column(Text(heading), justify=justify, width=width, overflow="fold", vertical="top")  # type: ignore[arg-type]
    for name, rows in blocks:
        if several:
            table.add_section()
            for part in wrap(name, widths[0], break_on_hyphens=False) or [name]:
                table.add_row(Text(part, style="bold"))
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
    return table
