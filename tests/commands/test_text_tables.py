"""Tables on the terminal."""

import pytest

from guidino_cli.commands.text_tables import print_table

HEADINGS = ("metric", "n used/total", "mean", "std", "median", "95 % CI of mean")
ROWS = [
    ("IoU", "1200/1200", "0.9123", "0.1234", "0.9345", "0.8923 .. 0.9345"),
    ("HD95 mm", "1200/1200", "1234.56", "2345.67", "1234.56", "1234.56 .. 2345.67"),
]


@pytest.mark.parametrize("columns", [20, 40, 60, 72, 80, 120])
@pytest.mark.parametrize("name", ["polyp", "a long name of a structure", "averyverylongnamewithoutaspace" * 3])
def test_no_number_and_no_name_is_cut_at_any_width(
    columns: int, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(HEADINGS, [(name, ROWS), ("other", ROWS)], several=True)
    printed = capsys.readouterr().out
    for number in {word for row in ROWS for cell in row for word in cell.split()}:
        assert number in printed.split(), number
    assert "…" not in printed
    assert "".join(name.split()) in "".join(printed.split())


def test_a_long_name_in_the_first_column_is_broken_and_numbers_are_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(HEADINGS, [("", [("x" * 60 + ".png", *ROWS[1][1:])])])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 90
    assert printed.count("x") == 60
    assert set(" ".join(ROWS[1][1:]).split()) <= set(printed.split())


@pytest.mark.parametrize("columns", [78, 80])
def test_headings_take_two_lines_before_a_table_gets_too_wide(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(HEADINGS, [("", ROWS)])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert any("1234.56 .. 2345.67" in line for line in lines)
