"""Text of figures: names of files and classes may hold any character, of which a font draws only some."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MISSING = "\u25a1"
"""Drawn for each character that the font lacks: an empty square."""


def create_figure(**settings: Any) -> Figure:
    """A figure that is not registered with pyplot; in its texts, what the font cannot draw becomes an empty square."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure: Figure = _figure_class()(**settings)
    FigureCanvasAgg(figure)
    return figure


def replace_missing(text: str, known: Collection[int]) -> str:
    """Replace characters whose code is not in `known`: control characters by spaces, others by empty squares.

    Invisible characters, such as joiners of emoji, are left out; line ends stay.
    """
    return "".join(_drawable(character, known) for character in unicodedata.normalize("NFC", text))


def _drawable(character: str, known: Collection[int]) -> str:
    category = unicodedata.category(character)
    if character == "\n" or (ord(character) in known and category[0] != "C"):
        return character
    if category in {"Cc", "Zl", "Zp"}:
        return " "
    return "" if category in {"Cf", "Mn", "Me"} else _MISSING


@cache
def _figure_class() -> type[Figure]:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    class PlainTextFigure(Figure):
        def draw(self, renderer: Any) -> None:
            for text in self.findobj(Text):
                # Dollar signs of names are no formulas; those of logarithmic axes, filled in while drawing, are.
                if text.get_text() and r"\mathdefault" not in text.get_text():
                    text.set_parse_math(False)
                    text.set_text(replace_missing(text.get_text(), _known_characters(text.get_fontproperties())))
            super().draw(renderer)

    return PlainTextFigure


@cache
def _known_characters(properties: Any) -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(properties)).get_charmap())
