"""Pairs that are listed in tables."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guidino_cli.errors import DataError
from guidino_cli.evaluation.pairs.cases import Pairing
from guidino_cli.evaluation.pairs.tables import in_one_order, read_pairs

Paired = Callable[[Pairing], dict[str, str | None]]


def test_a_table_of_pairs_is_followed_to_the_letter(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("case,prediction,truth,scanner\np1,x/one.png,y/uno.png,A\np2,,y/due.png,B\n", encoding="utf-8")
    found = read_pairs(table)
    assert [pair.prediction for pair in found.pairs] == [tmp_path / "x/one.png", None]
    assert found.pairs[1].truth.fields == {"scanner": "B"}


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="prediction,truth"):
        read_pairs(tmp_path / "pairs.csv")


def _table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["prediction,truth", *rows]))
    return path


def test_pairs_of_two_tables_are_brought_into_one_order(paired: Paired, tmp_path: Path) -> None:
    tables = [
        _table(tmp_path / "1.csv", "x.png,a.png", "y.png,b.png"),
        _table(tmp_path / "2.csv", "v.png,b.png", ",a.png"),
    ]
    first, second = in_one_order([read_pairs(table) for table in tables], tables)
    assert paired(first) == {"a": "x.png", "b": "y.png"}
    assert list(paired(second).items()) == [("a", None), ("b", "v.png")]


@pytest.mark.parametrize(
    ("row", "said"), [("x.png,c.png", r"other cases than .*1\.csv \(a, c\)"), ("x.png,sub/a.png", "the truth of a is")]
)
def test_tables_with_other_truths_are_refused(row: str, said: str, tmp_path: Path) -> None:
    tables = [_table(tmp_path / "1.csv", "x.png,a.png"), _table(tmp_path / "2.csv", row)]
    with pytest.raises(DataError, match=said):
        in_one_order([read_pairs(table) for table in tables], tables)
