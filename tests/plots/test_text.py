"""Names of any language and with any sign are drawn without a warning."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from guidino_cli.plots.contact_sheet import Tile, contact_sheet
from guidino_cli.plots.text import create_figure, replace_missing

KNOWN = {*map(ord, "abcé1 □")}


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("a1", "a1"),
        ("患者1", "□□1"),
        ("e\u0301", "é"),
        ("a\tb\x1bc", "a b c"),
        ("a\nb", "a\nb"),
        ("a👩\u200d🦰\ufe0f", "a□□"),
    ],
)
def test_what_the_font_lacks_becomes_a_square(name: str, drawn: str) -> None:
    assert replace_missing(name, KNOWN) == drawn


@pytest.mark.parametrize("name", ["患者01", "polyp 🦠", "a\tb", "$\\frac{$", "a$b$c", "نص", "é\u0301"])
def test_a_figure_with_such_a_name_is_saved_without_a_warning(name: str, tmp_path: Path) -> None:
    tile = Tile(np.zeros((20, 20, 3), np.uint8), np.ones((20, 20), np.uint8), name, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        contact_sheet([tile], heading=name, classes=["background", name]).savefig(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0


def test_numbers_of_a_logarithmic_axis_stay_formulas(tmp_path: Path) -> None:
    figure = create_figure()
    axes = figure.subplots()
    axes.loglog([1, 1000], [1, 1000])
    figure.savefig(tmp_path / "a.png")
    formulas = [label for label in axes.get_xticklabels() if "mathdefault" in label.get_text()]
    assert len(formulas) >= 4
    assert all(label.get_parse_math() for label in formulas)
