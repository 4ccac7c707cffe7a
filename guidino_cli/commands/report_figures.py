"""Figures and pictures of `guidino report` as parts of the page itself."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Example(NamedTuple):
    """A picture of a case with its errors.

    Attributes:
        uri: The picture as a `data:` URI.
        lines: Its caption; the first is the name of the case.
        is_wide: Whether it shows several planes.
    """

    uri: str
    lines: list[str]
    is_wide: bool


def embed_figure(figure: "Figure") -> str:
    """A figure as a `data:` URI of an SVG, which prints sharply; the same figure gives the same text."""
    import matplotlib

    content = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "guidino"}):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(content.getvalue()).decode('ascii')}"


def read_examples(page: Path) -> tuple[str, list[Example]]:
    """Title and pictures of the worst cases on the page of an evaluation, which drew them from the masks.

    Their masks and images may be elsewhere by now. ("", []) if there is no page or no picture on it.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return "", []
    reader = _ExampleReader()
    reader.feed(text)
    return reader.title, reader.examples


class _ExampleReader(HTMLParser):
    """Collects the figures below the first heading that begins with "worst"."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.examples: list[Example] = []
        self._heading: list[str] | None = None
        self._is_inside = False
        self._uri = ""
        self._is_wide = False
        self._caption: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Enter a heading, a figure or its caption."""
        values = dict(attrs)
        if tag == "h3":
            self._heading = []
        elif tag == "figure" and self._is_inside:
            self._uri, self._is_wide = "", values.get("class") == "planes"
        elif tag == "img" and self._is_inside:
            source = values.get("src") or ""
            self._uri = source if source.startswith("data:image/") else ""
        elif tag == "figcaption" and self._is_inside:
            self._caption = [""]
        elif tag == "br" and self._caption is not None:
            self._caption.append("")

    def handle_endtag(self, tag: str) -> None:
        """Leave a heading or a figure."""
        if tag == "h3" and self._heading is not None:
            heading = "".join(self._heading).strip()
            self._is_inside = heading.startswith("worst") and not self.title
            self.title = heading if self._is_inside else self.title
            self._heading = None
        elif tag == "h2":
            self._is_inside = False
        elif tag == "figure" and self._is_inside and self._caption is not None:
            if self._uri:
                self.examples.append(Example(self._uri, self._caption, self._is_wide))
            self._caption = None

    def handle_data(self, data: str) -> None:
        """Text of a heading or a caption."""
        if self._heading is not None:
            self._heading.append(data)
        elif self._caption is not None:
            self._caption[-1] += data
