"""CSV tables."""

import csv
import io
from pathlib import Path

import pytest

import guidino_cli
from guidino_cli.errors import DataError
from guidino_cli.tables import path_of_cell, read_csv, to_csv


def test_a_table_survives_writing_and_reading(tmp_path: Path) -> None:
    rows = [["a,b", 'says "yes"'], ["", "two\nlines"]]
    (tmp_path / "t.csv").write_text(to_csv(["name", "text"], rows), encoding="utf-8", newline="")
    assert read_csv(tmp_path / "t.csv") == (
        ["name", "text"],
        [dict(zip(("name", "text"), row, strict=True)) for row in rows],
    )


def test_the_byte_order_mark_of_spreadsheets_is_no_part_of_the_first_heading(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfcase,group\r\na,1\r\n")
    assert read_csv(tmp_path / "t.csv") == (["case", "group"], [{"case": "a", "group": "1"}])


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), (b"\xff\xfe\x00", "not a CSV of UTF-8 or UTF-16 text")]
)
def test_a_file_that_is_no_table_is_an_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path / "t.csv")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without end")
def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(DataError, match=r"/dev/zero: is larger than 200 MB"):
        read_csv(Path("/dev/zero"))


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "t.csv").touch()
    with pytest.raises(DataError, match=r"t.csv: is empty \(0 bytes\)"):
        read_csv(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a;b\n1,5;2\n", [["1,5", "2"]]),
        ("a,b\n1;2,3\n", [["1;2", "3"]]),
        ("a\tb\n1\t2\n", [["1", "2"]]),
        ("sep=;\na;b\n1;2\n", [["1", "2"]]),
        ('a;b\n"x;y";2\n', [["x;y", "2"]]),
        ("a,b\n1\n", [["1", ""]]),
        ("a,b,\n1,2,\n", [["1", "2", ""]]),
        ('a,b\nan "old" scan,2\n', [['an "old" scan', "2"]]),
    ],
)
def test_the_heading_line_tells_the_delimiter(tmp_path: Path, text: str, rows: list[list[str]]) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert [list(row.values()) for row in read_csv(tmp_path / "t.csv")[1]] == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2,3\n", "line 2 has 3 cells, expected 2"),
        (b"a,a\n1,2\n", "the column a comes twice"),
        ("a,b\nÜ,1\n".encode("cp1252"), "save it as UTF-8, in a spreadsheet as 'CSV UTF-8'"),
    ],
)
def test_a_table_that_could_be_misread_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path / "t.csv")


def test_a_backslash_that_is_part_of_a_name_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a\\b.png").touch()
    assert path_of_cell(tmp_path, "a\\b.png") == tmp_path / "a\\b.png"
    assert path_of_cell(tmp_path, "c\\d.png") == tmp_path / "c" / "d.png"


_FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+a",
    "-a.png",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "-2+3",
    "-1_0",
    "＝1",
    "'=1",
    "''@",
]


@pytest.mark.parametrize("cell", _FORMULAS)
def test_a_cell_that_a_spreadsheet_would_compute_gets_a_quote_and_loses_it_again(tmp_path: Path, cell: str) -> None:
    text = to_csv(["name"], [[cell]])
    assert [row[0] for row in csv.reader(io.StringIO(text, newline=""))] == ["name", f"'{cell}"]
    (tmp_path / "t.csv").write_text(text, encoding="utf-8", newline="")
    assert read_csv(tmp_path / "t.csv") == (["name"], [{"name": cell}])


@pytest.mark.parametrize("cell", ["-0.5", "-1e-05", "+3", "-inf", "a=b", "'tis", "", "-"])
def test_numbers_and_other_texts_stay_as_they_are(tmp_path: Path, cell: str) -> None:
    written = to_csv(["a", "b"], [[cell, -0.5]]).splitlines()[1]
    assert written == (f"{cell},-0.5" if cell != "-" else "'-,-0.5")
    (tmp_path / "t.csv").write_text(to_csv(["a", "b"], [[cell, -0.5]]), encoding="utf-8")
    assert read_csv(tmp_path / "t.csv")[1] == [{"a": cell, "b": "-0.5"}]


def test_no_other_module_writes_csv() -> None:
    package = Path(guidino_cli.__file__).parent
    found = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    writers = [path for path, text in found.items() if "csv.writer(" in text or "DictWriter" in text]
    assert [path.relative_to(package).as_posix() for path in writers] == ["tables.py"]


def test_a_zero_byte_which_no_path_may_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"image,mask\na.png\0,b.png\n")
    with pytest.raises(DataError, match=r"t\.csv: .*zero byte"):
        read_csv(tmp_path / "t.csv")
