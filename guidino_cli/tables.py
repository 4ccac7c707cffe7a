"""CSV tables as text with a heading line, as programs and spreadsheets write them; no cell is run as a formula."""

import codecs
import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from guidino_cli.errors import DataError

# A million rows; devices such as /dev/zero never end.
_MAX_BYTES = 200_000_000
_DELIMITERS = (",", ";", "\t")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Beginnings of a cell that spreadsheets take for a formula, which may run programs: file names may hold anything."""
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Headings, and rows by heading; a cell that a row lacks is "".

    Commas, semicolons and tabs separate cells, whichever the heading line has; the text is UTF-8 or UTF-16, and a byte
    order mark is skipped. A single quote before a formula is taken away, see `to_csv`.

    Raises:
        DataError: The file cannot be read, is empty (0 bytes) or not such text, a heading comes twice, or a row has too
            many cells.
    """
    rows = read_rows(path)
    if not rows:
        return [], []
    headings = rows[0][1]
    named = [heading for heading in headings if heading.strip()]
    if twice := [heading for heading in named if named.count(heading) > 1]:
        raise DataError(f"{path}: the column {twice[0]} comes twice; rename one of them")
    for line, cells in rows[1:]:
        if any(cell.strip() for cell in cells[len(headings) :]):
            raise DataError(
                f"{path}: line {line} has {len(cells)} cells, expected {len(headings)} as in the first line; put "
                "quotes around a cell that holds the delimiter"
            )
    padding = [""] * len(headings)
    return headings, [dict(zip(headings, [*cells, *padding], strict=False)) for _, cells in rows[1:]]


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Number of the line and cells of each row that is not blank, the first one included; see `read_csv`.

    Raises:
        DataError: The file cannot be read, or is not text of UTF-8 or UTF-16.
    """
    text = _read_text(path)
    first = text.partition("\n")[0].strip("\r")
    delimiter = max(_DELIMITERS, key=first.count)
    if first.lower().startswith("sep=") and len(first) == len("sep=,"):
        # Spreadsheets state the delimiter in a line of its own.
        delimiter, text = first[-1], "\n" + text.partition("\n")[2]
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return [(reader.line_num, [_read_cell(cell) for cell in cells]) for cells in reader if cells]
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV ({error})") from error


def path_of_cell(folder: Path, cell: str) -> Path:
    """Path that a cell names, relative to `folder`; backslashes of Windows separate folders, too."""
    path = folder / cell
    return folder / cell.replace("\\", "/") if "\\" in cell and not path.exists() else path


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path}: is larger than {_MAX_BYTES // 1_000_000} MB, expected a CSV; split the table")
    if not content:
        raise DataError(f"{path}: is empty (0 bytes), expected a CSV with a heading line")
    encoding = "utf-16" if content.startswith(_UTF_16) else "utf-8-sig"
    # Without a byte order mark, the zero byte of the first letter decides.
    if b"\0" in content[:2] and len(content) % 2 == 0:
        encoding = "utf-16-le" if content[1] == 0 else "utf-16-be"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not a CSV of UTF-8 or UTF-16 text ({error.reason} at byte {error.start}); save it as UTF-8, in a "
            "spreadsheet as 'CSV UTF-8'"
        ) from error
    if "\0" in text:
        # No path may hold one.
        raise DataError(f"{path}: not a CSV of UTF-8 or UTF-16 text (it holds a zero byte); save it as UTF-8")
    return text


def to_csv(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV text with LF line endings.

    A text that begins with = + - @ or white space, as a formula does, gets a single quote before it; numbers do not.
    `read_csv` takes it away.
    """
    return "".join(_write_row(row) for row in (headings, *rows))


def _write_row(row: Sequence[object]) -> str:
    text = io.StringIO()
    # csv quotes a carriage return only where it belongs to the end of a line.
    csv.writer(text, lineterminator="\r\n").writerow([_write_cell(cell) for cell in row])
    return text.getvalue().removesuffix("\r\n") + "\n"


def _write_cell(cell: object) -> object:
    if isinstance(cell, str) and cell.lstrip("'").startswith(_FORMULA_STARTS) and not _is_number(cell):
        return f"'{cell}"
    return cell


def _read_cell(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA_STARTS) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    # Python takes digits joined by underscores and numbers in white space, too.
    return text.strip() == text and "_" not in text
