"""docs/prepare.md names every layout, column, option and file."""

from dataclasses import fields
from pathlib import Path

import pytest

from guidino_cli.data.masks.ambiguity import MAX_CLASSES
from guidino_cli.options.argv import option_values
from guidino_cli.options.data import PrepareOptions
from guidino_cli.preparation.generic_layouts import COLUMNS
from guidino_cli.preparation.layouts import layout_names

PAGE = (Path(__file__).parents[2] / "docs" / "prepare.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", layout_names())
def test_every_layout_has_a_row(name: str) -> None:
    assert f"\n| `{name}` |" in PAGE


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_every_column_has_a_row(name: str) -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert any(f"`{name}`" in row for row in rows)


def test_every_option_that_decides_something_is_explained() -> None:
    obvious = {"out", "name", "overwrite"}
    assert len(fields(PrepareOptions)) > 10
    assert [name for name in option_values(PrepareOptions()) if name not in obvious and f"--{name}" not in PAGE] == []


def test_the_largest_class_index_is_that_of_the_code() -> None:
    assert f"0, 1, 2, ... up to {MAX_CLASSES - 1} |" in PAGE
