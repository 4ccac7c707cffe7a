"""What a case belongs to - a patient, a scanner, a split - told by a column, a table or a pattern on its name."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.evaluation.pairing import Truth


def column(truths: Sequence[Truth], source: str, *, option: str) -> list[str]:
    """One value for every case.

    Args:
        truths: The cases.
        source: Name of a known column (split, group, fold of prepared data, or a column of --pairs), a CSV file with
            the columns case and value, or a pattern whose first group (or whole match) on the name of the case is the
            value.
        option: Name of the option, for messages.

    Raises:
        ConfigError: No such column and not a pattern.
        DataError: A case without a value.
    """
    if all(source in truth.fields for truth in truths):
        return [truth.fields[source] for truth in truths]
    if source.lower().endswith(".csv"):
        return _from_table(truths, Path(source))
    known = sorted({name for truth in truths for name in truth.fields})
    try:
        pattern = re.compile(source)
    except re.error as error:
        columns = ", ".join(known) or "none"
        raise ConfigError(f"{option} {source}: neither a column (known: {columns}) nor a pattern ({error})") from error
    values = []
    for truth in truths:
        found = pattern.search(truth.case)
        if found is None:
            columns = f"known columns: {', '.join(known)}" if known else "these cases have no columns"
            raise DataError(f"{option} {source}: does not occur in the case name {truth.case}; {columns}")
        values.append(found.group(1) if pattern.groups else found.group())
    return values


def _from_table(truths: Sequence[Truth], table: Path) -> list[str]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read as a CSV ({error})") from error
    if not rows or rows[0][0] != "case" or any(len(row) < 2 for row in rows):
        raise DataError(f"{table}: expected a header 'case,NAME' and one row a case")
    known = {row[0]: row[1] for row in rows[1:]}
    missing = [truth.case for truth in truths if truth.case not in known]
    if missing:
        raise DataError(f"{table}: has no row for {missing[0]} ({len(missing)} cases without a row)")
    return [known[truth.case] for truth in truths]
