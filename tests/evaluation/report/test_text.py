"""Markdown of reports."""

import pytest

from guidino_cli.evaluation.report.text import escape_markdown, markdown_table


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", "a\\|b"),
        ("two\nlines", "two lines"),
        ("<script>", "&lt;script>"),
        ("</b>", "&lt;/b>"),
        ("<0.001", "<0.001"),
    ],
)
def test_markdown_cells_hold_no_separator_line_break_or_tag(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


def test_a_table_aligns_all_columns_but_the_first_to_the_right() -> None:
    table = markdown_table(("metric", "mean"), [("Dice", "0.9")])
    assert table == ["| metric | mean |", "| --- | ---: |", "| Dice | 0.9 |"]
