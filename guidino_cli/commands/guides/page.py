"""`guides.html`: one page that holds the figures and all pictures, written picture by picture."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from math import isfinite
from pathlib import Path
from statistics import mean, median

from PIL import Image

from guidino_cli import __version__
from guidino_cli.commands.guides.tables import HEADINGS, NOTE, Figures, Line, digits, summary
from guidino_cli.files import write_atomically
from guidino_cli.plots.page import SCRIPT, STYLE, small_uri
from guidino_cli.plots.report import histogram_svg

FILE = "guides.html"
PICTURES = 400
"""In the page; a browser gets slow with more, and the folder has all."""
_WIDTH = 1400
_EXTREMES = 3


def write_page(
    out: Path, *, heading: str, lines: Sequence[str], pictures: Iterable[Path], extra: Sequence[tuple[str, Path]],
    figures: Figures | None = None,
) -> None:  # fmt: skip
    """Write the page; it loads nothing from anywhere, and is never in memory as a whole.

    Args:
        out: Folder of the page and of the pictures.
        heading: Title.
        lines: What a reader must know about all pictures.
        pictures: NAME_guide.png and so on, in order.
        extra: Titles and files of pictures of the whole set.
        figures: Scores, if there are any.
    """

    def fill(place: Path) -> None:
        with place.open("w", encoding="utf-8", newline="\n") as file:
            for part in _parts(heading, lines, pictures, extra, figures):
                file.write(part + "\n")

    write_atomically(out / FILE, fill)


def _parts(
    heading: str, lines: Sequence[str], pictures: Iterable[Path], extra: Sequence[tuple[str, Path]],
    figures: Figures | None,
) -> Iterator[str]:  # fmt: skip
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(heading)}</title>'
    yield f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}{_STYLE}</style></head><body>'
    yield f"<h1>{escape(heading)}</h1>"
    yield "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
    if figures is not None and figures.has_truth:
        yield from _scores(figures)
    for title, path in extra:
        yield f"<h2>{escape(title)}</h2>" + _figure(path, escape(title), width=1900)
    if figures is not None:
        yield "<h2>All images</h2>" + _table(figures)
    yield "<h2>Pictures</h2>"
    left = 0
    for number, path in enumerate(pictures):
        if number < PICTURES:
            yield f'<div id="{_anchor(path.stem)}">{_figure(path, escape(path.stem))}</div>'
        else:
            left += 1
    if left:
        yield f"<p>{left} more pictures are in the folder of this page.</p>"
    yield f'<p class="small">guidino {escape(__version__)}</p><script>{SCRIPT}</script></body></html>'


def _scores(figures: Figures) -> Iterator[str]:
    yield "<h2>Does the guide alone know where the foreground is?</h2>"
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADINGS)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in summary(figures))
    yield f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    yield f'<p class="small">{escape(NOTE)} IoU: mean over the images with foreground.</p>'
    yield '<div class="grid">'
    for tally in figures.tallies:
        values = figures.aurocs(tally.name)
        if values:
            title = "AUROC of the guide" + (f", {tally.name}" if len(figures.tallies) > 1 else "")
            yield histogram_svg(values, title=title, is_share=True, mean=mean(values), median=median(values))
            yield _curve_svg(figures.thresholds, [tally.mean_iou(value) for value in figures.thresholds], tally.name)
    yield "</div>"
    yield '<p class="small">Left: images by AUROC; solid line: mean, dashed: median. Right: mean IoU by threshold, '
    yield "which chooses none: a threshold picked on the images that are scored would flatter the guide.</p>"
    yield from _extremes(figures)


def _extremes(figures: Figures) -> Iterator[str]:
    """Links to the worst, median and best images; their pictures follow below, once."""
    last = figures.tallies[-1].name
    ranked = sorted(
        (line for line in figures.lines if line.score.map == last and isfinite(line.score.auroc)),
        key=lambda line: line.score.auroc,
    )
    if len(ranked) < 2 * _EXTREMES:
        return
    middle = max(0, len(ranked) // 2 - 1)
    groups = {
        "worst": ranked[:_EXTREMES],
        "median": ranked[middle : middle + _EXTREMES],
        "best": ranked[::-1][:_EXTREMES],
    }
    for name, lines in groups.items():
        links = ", ".join(f"{_link(line)} ({digits(line.score.auroc)})" for line in lines)
        yield f"<p><b>{name} by AUROC:</b> {links}</p>"


def _table(figures: Figures) -> str:
    half = list(figures.thresholds).index(0.5)
    names = ["image", "map", "AUROC", "IoU at 0.5", "foreground", "lowest", "mean", "highest", "network's Dice"]
    head = "".join(f'<th><button type="button">{escape(name)}</button></th>' for name in names)
    rows = []
    for line in figures.lines:
        score = line.score
        cells = [digits(value) for value in (score.auroc, line.iou[half], score.foreground)]
        cells += [digits(value) for value in (score.low, score.mean, score.high, line.dice)]
        body = "".join(f"<td>{cell}</td>" for cell in [_link(line), escape(score.map), *cells])
        rows.append(f"<tr>{body}</tr>")
    table = f'<table id="cases"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _link(line: Line) -> str:
    return f'<a href="#{_anchor(f"{line.name}_guide")}">{escape(line.name)}</a>'


def _anchor(name: str) -> str:
    return "p-" + "".join(sign if sign.isalnum() else "-" for sign in name)


def _figure(path: Path, title: str, *, width: int = _WIDTH) -> str:
    with Image.open(path) as file:
        shape, address = file.size, small_uri(file, width=width)
    # With its proportions known, the page does not jump while pictures are decoded one by one.
    size = f'width="{shape[0]}" height="{shape[1]}"'
    return f'<img class="panel" loading="lazy" decoding="async" {size} src="{address}" alt="{title}">'


def _curve_svg(thresholds: Sequence[float], values: Sequence[float], name: str) -> str:
    """Mean IoU by threshold as a line."""
    known = [(at, value) for at, value in zip(thresholds, values, strict=True) if isfinite(value)]
    if len(known) < 2:
        return ""
    width, height, left, base, top = 320, 150, 34, 126, 28
    low, high = known[0][0], known[-1][0]

    def x(at: float) -> float:
        return left + (at - low) / (high - low) * (width - left - 14)

    def y(value: float) -> float:
        return base - value * (base - top)

    line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in known)
    dots = "".join(
        f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="{4 if at == 0.5 else 2.5}"><title>{at:g}: {value:.3f}</title>'
        "</circle>"
        for at, value in known
    )
    half = dict(known).get(0.5)
    said = "" if half is None else f", {half:.3f} at 0.5"
    title = escape(f"mean IoU by threshold{said}" if name == "foreground" else f"{name}: mean IoU{said}")
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
        f'<text x="{left}" y="14" class="title">{title}</text>'
        f'<text x="{left - 4}" y="{base}" text-anchor="end">0</text>'
        f'<text x="{left - 4}" y="{top + 4}" text-anchor="end">1</text>'
        f'<text x="{left}" y="{base + 15}">{low:g}</text>'
        f'<text x="{width - 14}" y="{base + 15}" text-anchor="end">{high:g}</text>'
        f'<line class="axis" x1="{left}" x2="{width - 8}" y1="{base}" y2="{base}"/>'
        f'<line class="axis" x1="{left}" x2="{left}" y1="{top}" y2="{base}"/>'
        f'<polyline points="{line}" class="curve"/>{dots}</svg>'
    )


_STYLE = """
body{max-width:1240px} img.panel{width:100%;height:auto;background:#fff;border-radius:4px;margin:.3rem 0 1rem}
svg .curve{fill:none;stroke:var(--bar);stroke-width:2} svg circle{fill:var(--bar)}
#cases :is(td,th):nth-child(n+3){text-align:right} a{color:inherit}
"""
