"""Pairs that the user lists in tables, and several tables of the same cases."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from guidino_cli.errors import DataError
from guidino_cli.evaluation.pairs.cases import Pair, Pairing, Truth
from guidino_cli.evaluation.pairs.names import repeated, some, stem


def read_pairs(table: Path) -> Pairing:
    """Pairs from a CSV with the columns prediction and truth, and perhaps case; paths are relative to the CSV.

    An empty prediction is a missing one. Further columns are fields for strata and groups.

    Raises:
        DataError: No such file, no such columns, no rows, or a case that comes twice.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: not a UTF-8 CSV ({error})") from error
    if not rows or not {"prediction", "truth"} <= set(rows[0]):
        raise DataError(f"{table}: expected a header with the columns prediction,truth and one row a case")
    pairs = [_pair_of(row, table.parent, f"{table}: row {number}") for number, row in enumerate(rows, start=2)]
    twice = repeated([pair.truth.case for pair in pairs])
    if twice:
        raise DataError(f"{table}: {some(twice)} come twice")
    return Pairing(pairs, [], f"the table {table.name}", [])


def in_one_order(pairings: Sequence[Pairing], tables: Sequence[Path]) -> list[Pairing]:
    """Pairings of the same cases, all in the order of the first.

    Args:
        pairings: From `read_pairs`.
        tables: Where they were read, for messages.

    Raises:
        DataError: A table has other cases than the first one, or another truth for one of them.
    """
    first = pairings[0]
    result = [first]
    for pairing, table in zip(pairings[1:], tables[1:], strict=True):
        known = {pair.truth.case: pair for pair in pairing.pairs}
        odd = sorted(known.keys() ^ {pair.truth.case for pair in first.pairs})
        if odd:
            raise DataError(f"{table}: has other cases than {tables[0]} ({some(odd)}); give every table the same cases")
        for pair in first.pairs:
            other = known[pair.truth.case].truth.path
            if other.resolve() != pair.truth.path.resolve():
                raise DataError(f"{table}: the truth of {pair.truth.case} is {other}, in {tables[0]} {pair.truth.path}")
        pairs = [replace(pair, prediction=known[pair.truth.case].prediction) for pair in first.pairs]
        result.append(replace(pairing, pairs=pairs))
    return result


def _pair_of(row: dict[str, str], folder: Path, where: str) -> Pair:
    if not row["truth"]:
        raise DataError(f"{where}: no truth")
    truth = folder / row["truth"]
    fields = {key: value for key, value in row.items() if key not in {"prediction", "truth", "case"} and key}
    case = row.get("case") or stem(truth)
    return Pair(Truth(case, truth, (case,), None, fields), folder / row["prediction"] if row["prediction"] else None)
