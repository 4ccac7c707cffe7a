"""Groups and strata from columns, tables and patterns."""

from pathlib import Path

import pytest

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.evaluation.cases import Truth
from guidino_cli.evaluation.columns import column_values


def truths(**scanners: str) -> list[Truth]:
    return [Truth(name, Path(name), (name,), None, {"scanner": value}) for name, value in scanners.items()]


def test_column_names_ignore_letter_case() -> None:
    assert column_values(truths(a="A", b="B"), "Scanner", option="--by") == ["A", "B"]


def test_an_empty_value_is_an_error_for_groups_and_a_stratum_of_its_own_for_strata() -> None:
    with pytest.raises(DataError, match="--group scanner: no value for b"):
        column_values(truths(a="A", b=""), "scanner", option="--group")
    assert column_values(truths(a="A", b=""), "scanner", option="--by", blank="(none)") == ["A", "(none)"]


def test_a_table_gives_the_named_column(tmp_path: Path) -> None:
    table = tmp_path / "meta.csv"
    table.write_text("patient,case,site\np1,a,X\np2,b,Y\n", encoding="utf-8")
    assert column_values(truths(a="", b=""), f"{table}:patient", option="--group") == ["p1", "p2"]
    assert column_values(truths(a="", b=""), f"{table}:site", option="--by") == ["X", "Y"]


def test_a_table_of_two_columns_needs_no_name(tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("case,group\na,1\nb,2\n", encoding="utf-8")
    assert column_values(truths(a="", b=""), str(table), option="--group") == ["1", "2"]


@pytest.mark.parametrize(
    ("content", "wanted", "message"),
    [
        ("case,site,age\na,X,3\n", "", "several columns; name one: .*meta.csv:site, .*meta.csv:age"),
        ("case,site,age\na,X,3\n", ":scanner", "has no column scanner; it has site, age"),
        ("name,site\na,X\n", "", "found the columns name, site, expected case"),
        ("case,site\nz,X\n", "", "no value for a"),
        ("", "", r"meta.csv: is empty \(0 bytes\)"),
        ("case,site\na,X\na,Y\n", "", "has two values for a, X and Y"),
    ],
)
def test_an_unsuitable_table_is_an_error_with_its_columns(
    tmp_path: Path, content: str, wanted: str, message: str
) -> None:
    (tmp_path / "meta.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        column_values(truths(a=""), f"{tmp_path / 'meta.csv'}{wanted}", option="--group")


def test_a_pattern_gives_its_first_group() -> None:
    assert column_values(truths(p1_x="", p2_y=""), r"^(p\d+)_", option="--group") == ["p1", "p2"]


def test_an_unknown_column_is_an_error_that_lists_the_columns() -> None:
    with pytest.raises(DataError, match=r"vendor: no such column.*known columns: scanner"):
        column_values(truths(a="A"), "vendor", option="--by")
    with pytest.raises(ConfigError, match="nor a pattern"):
        column_values(truths(a="A"), "(", option="--by")
