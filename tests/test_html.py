"""Pages rendered from templates: what is inserted is escaped, what is missing is an error."""

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from guidino_cli.html import render, stream

SIZES = {"width": 9, "height": 9, "left": 0, "right": 9, "base": 9, "bar_width": 1, "largest_count": 1}
HISTOGRAM = SIZES | {"title": "a", "bars": [], "lines": [], "largest_value": "1"}


def test_an_inserted_value_is_escaped_in_text_and_in_attributes() -> None:
    svg = render("histogram.svg.j2", **(HISTOGRAM | {"title": "\"><script>'&"}))
    assert 'aria-label="&#34;&gt;&lt;script&gt;&#39;&amp;: distribution' in svg
    assert 'class="title">&#34;&gt;&lt;script&gt;' in svg


def test_rendered_markup_is_not_escaped_again() -> None:
    inner = render("histogram.svg.j2", **(HISTOGRAM | {"title": "a&b"}))
    assert "&amp;amp;" not in Markup("<div>{}</div>").format(inner)


def test_a_value_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="largest_value"):
        render("histogram.svg.j2", **SIZES, title="a")


def test_a_stream_takes_values_one_at_a_time() -> None:
    taken: list[int] = []

    def bars() -> object:
        for index in range(2000):
            taken.append(index)
            yield index, 1.0, 1

    parts = stream("histogram.svg.j2", **(HISTOGRAM | {"bars": bars()}))
    for part in parts:
        if "<rect" in part or "<title>" in part:
            break
    assert len(taken) < 3
