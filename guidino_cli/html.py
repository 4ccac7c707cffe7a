"""HTML pages rendered from `templates/`; every inserted value is escaped.

A page extends `base.html.j2`, which brings the style sheet and the script that sorts tables and loads nothing from
elsewhere. `macros.html.j2` holds the elements that pages share.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def _environment() -> "Environment":
    # Imported when a page is rendered, which most commands do not do.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values: Any) -> Markup:
    """Render a file of `templates/`; the result is not escaped again when another template inserts it.

    Raises:
        jinja2.UndefinedError: The template uses a value that is not given.
    """
    return Markup("".join(stream(template, **values)))


def stream(template: str, **values: Any) -> Iterator[str]:
    """Render piece by piece, for pages too large to be kept; values may be generators."""
    return _environment().get_template(template).generate(values)
