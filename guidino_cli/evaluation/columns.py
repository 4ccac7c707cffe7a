"""Group or stratum of each case (patient, scanner, split), from a column, a table or a pattern on its name."""

import re
from collections.abc import Sequence
from pathlib import Path

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.evaluation.cases import Truth
from guidino_cli.tables import read_csv


def column_values(truths: Sequence[Truth], source: str, *, option: str, blank: str = "") -> list[str]:
    """Value of each case from one source.

    Args:
        truths: The cases.
        source: Name of a known column (split, group, fold, those of the table that prepared data came from, or of
            --pairs); a CSV file with the column case and one other, `TABLE.csv`, or several others,
            `TABLE.csv:COLUMN`; or a regular expression whose first group (or match) in the case name is the value.
        option: Name of the option, for error messages.
        blank: Value of a case without one; if empty, such a case is an error.

    Raises:
        ConfigError: Neither a column nor a regular expression.
        DataError: A case has no value, or the table lacks the column.
    """
    fields = [{name.lower(): value for name, value in truth.fields.items()} for truth in truths]
    if all(source.lower() in known for known in fields):
        return _require_values([known[source.lower()] for known in fields], truths, f"{option} {source}", blank)
    table, _, name = source.rpartition(":") if ".csv:" in source.lower() else (source, "", "")
    if table.lower().endswith(".csv"):
        known = _read_column(Path(table), name)
        return _require_values([known.get(truth.case, "") for truth in truths], truths, f"{option} {source}", blank)
    return _match_pattern(truths, source, option)


def describe_source(truths: Sequence[Truth], source: str) -> str:
    """Name of what a valid source of `column_values` gives, for headings: a column, or `pattern ...`."""
    if all(source.lower() in {name.lower() for name in truth.fields} for truth in truths):
        return source
    if ".csv:" in source.lower():
        return source.rpartition(":")[2]
    if source.lower().endswith(".csv"):
        return next(heading for heading in read_csv(Path(source))[0] if heading != "case")
    return f"pattern {source}"


def _require_values(values: list[str], truths: Sequence[Truth], where: str, blank: str = "") -> list[str]:
    missing = [truth.case for truth, value in zip(truths, values, strict=True) if not value]
    if blank and len(missing) < len(values):
        return [value or blank for value in values]
    if missing:
        more = f" ({len(missing)} of {len(truths)} cases have none)" if len(missing) > 1 else ""
        raise DataError(f"{where}: no value for {missing[0]}{more}")
    return values


def _match_pattern(truths: Sequence[Truth], source: str, option: str) -> list[str]:
    names = sorted({name for truth in truths for name in truth.fields})
    columns = f"known columns: {', '.join(names)}" if names else "these cases have no columns"
    try:
        pattern = re.compile(source)
    except re.error as error:
        raise ConfigError(f"{option} {source}: neither a column ({columns}) nor a pattern ({error})") from error
    values = []
    for truth in truths:
        found = pattern.search(truth.case)
        if found is None:
            raise DataError(
                f"{option} {source}: no such column, and as a pattern it does not occur in the case name "
                f"{truth.case}; {columns}; a table can be given as TABLE.csv:COLUMN"
            )
        values.append((found.group(1) if pattern.groups else found.group()) or "")
    return _require_values(values, truths, f"{option} {source}")


def _read_column(table: Path, name: str) -> dict[str, str]:
    """Value of each case in a column of a CSV; without a name, in the only column besides `case`."""
    headings, rows = read_csv(table)
    others = [heading for heading in headings if heading != "case"]
    if "case" not in headings or not others:
        found = ", ".join(headings) or "none"
        raise DataError(f"{table}: found the columns {found}, expected case and at least one other, one row per case")
    if name and name not in others:
        raise DataError(f"{table}: has no column {name}; it has {', '.join(others)}")
    if not name and len(others) > 1:
        raise DataError(f"{table}: has several columns; name one: {', '.join(f'{table}:{item}' for item in others)}")
    values: dict[str, str] = {}
    for row in rows:
        case, value = row["case"] or "", (row[name or others[0]] or "").strip()
        if values.setdefault(case, value) != value:
            raise DataError(f"{table}: has two values for {case}, {values[case]} and {value}; keep one")
    return values
