"""CSV tables."""

from pathlib import Path

import pytest

from guidino_cli.errors import DataError
from guidino_cli.tables import read_csv, to_csv


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


@pytest.mark.parametrize(("content", "message"), [(None, "cannot be read"), (b"\xff\xfe\x00", "not a UTF-8 CSV")])
def test_a_file_that_is_no_table_is_an_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_csv(tmp_path / "t.csv")


def test_an_empty_file_has_no_headings(tmp_path: Path) -> None:
    (tmp_path / "t.csv").touch()
    assert read_csv(tmp_path / "t.csv") == ([], [])
