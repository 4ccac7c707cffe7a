"""CSV tables as text with a heading line."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from guidino_cli.errors import DataError


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Headings, and rows by heading; a byte order mark is skipped.

    Raises:
        DataError: The file cannot be read or is not a UTF-8 CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            return list(reader.fieldnames or []), list(reader)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a UTF-8 CSV ({error})") from error


def to_csv(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV text with LF line endings."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows(rows)
    return text.getvalue()
