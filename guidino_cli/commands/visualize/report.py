"""Scores of guides as a terminal table, `guides.csv`, `guides.json` and `guides.html`."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from math import isfinite, isnan
from pathlib import Path
from statistics import mean, median
from typing import Any

from PIL import Image

from guidino_cli import __version__
from guidino_cli.commands.visualize.inference import GuideResult
from guidino_cli.engine.guides.scores import MapScore, MapScoreAccumulator
from guidino_cli.files import write_atomically
from guidino_cli.html import render
from guidino_cli.plots.report import data_uri, histogram_svg

_SHOWN = 12
"""Images in the table on the terminal; guides.csv has all."""


@dataclass(frozen=True)
class GuideScoreRow:
    """The figures of one map of one image, as far as they are kept for all images.

    Attributes:
        name: Of the picture.
        image: File.
        score: Of the map, its IoU curve dropped.
        iou: One for each threshold.
        dice: Of the network's prediction, NaN without truth.
        before: AUROC of the other guide, if two are compared.
    """

    name: str
    image: str
    score: MapScore
    iou: tuple[float, ...]
    dice: float
    before: float = float("nan")


@dataclass
class GuideReport:
    """All figures of a set of images.

    Attributes:
        source: What the guide is from.
        tallies: One a map.
        tallies_before: Of the other guide, if two are compared.
        titles: Of the guide and the other one.
        thresholds: At which IoU is given.
        lines: One a map and image.
        facts: Said in the JSON: run, colours and the like.
    """

    source: str
    tallies: Sequence[MapScoreAccumulator]
    tallies_before: Sequence[MapScoreAccumulator]
    titles: tuple[str, str]
    thresholds: Sequence[float]
    lines: list[GuideScoreRow] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def has_truth(self) -> bool:
        """Whether any image had a truth."""
        return any(not isnan(line.score.foreground) for line in self.lines)

    def add(self, name: str, look: GuideResult) -> None:
        """The figures of one image."""
        dice = float("nan") if look.view.dice is None else look.view.dice
        for place, score in enumerate(look.scores):
            iou = tuple(score.iou_at(threshold) for threshold in self.thresholds)
            kept = MapScore(score.map, score.low, score.mean, score.high, score.foreground, score.auroc)
            before = look.before[place].auroc if look.before else float("nan")
            self.lines.append(GuideScoreRow(name, str(look.path), kept, iou, dice, before))

    def aurocs(self, map_name: str, *, before: bool = False) -> list[float]:
        """AUROC of one map in the images that have one."""
        values = [line.before if before else line.score.auroc for line in self.lines if line.score.map == map_name]
        return [value for value in values if isfinite(value)]


HEADINGS = ("guide", "n", "AUROC mean", "median", "worst", "pooled", "IoU .5")
NOTE = (
    "AUROC: does the guide rank foreground pixels above the others? 1 always, 0.5 knows nothing; no threshold. "
    "n: images with both kinds of pixels of all. pooled: over the pixels of all images."
)


def summary_rows(figures: GuideReport) -> list[tuple[str, ...]]:
    """One row a map under `HEADINGS`; where two guides are compared, one row each."""
    rows = []
    kinds = [(figures.tallies, figures.titles[0], False)]
    if figures.tallies_before:
        kinds.insert(0, (figures.tallies_before, figures.titles[1], True))
    for tallies, title, before in kinds:
        for tally in tallies:
            values = figures.aurocs(tally.name, before=before)
            spread = (mean(values), median(values), min(values)) if values else (float("nan"),) * 3
            name = f"{title}: {tally.name}" if figures.tallies_before else tally.name
            cells = [format_score(value) for value in (*spread, tally.pooled_auroc, tally.mean_iou(0.5))]
            rows.append((name, f"{tally.used}/{tally.total}", *cells))
    return rows


def print_report(figures: GuideReport) -> None:
    """Print what a reader wants first; fits 80 columns, and plain ASCII where the locale asks for it."""
    if not figures.has_truth:
        ends = ", ".join(f"{tally.name} {tally.low:.3f} to {tally.high:.3f}" for tally in figures.tallies)
        print(f"guide values: {ends}; give --truth to learn how well they tell foreground from background")
        return
    names = {line.name for line in figures.lines}
    if 1 < len(names) <= _SHOWN:
        half = list(figures.thresholds).index(0.5)
        several = len({line.score.map for line in figures.lines}) > 1
        rows = [
            (
                f"{line.name} ({line.score.map})" if several else line.name,
                format_score(line.score.auroc),
                format_score(line.iou[half]),
                f"{line.score.low:.2f}..{line.score.high:.2f}",
                format_score(line.dice),
            )
            for line in figures.lines
        ]
        _print_table(("image", "AUROC", "IoU at 0.5", "values", "network's Dice"), rows)
    _print_table(HEADINGS, summary_rows(figures))
    for tally in figures.tallies:
        curve = ", ".join(f"{value:g}: {format_score(tally.mean_iou(value))}" for value in figures.thresholds)
        name = f", {tally.name}" if len(figures.tallies) > 1 else ""
        _say(f"mean IoU by threshold{name}: {curve} (n {tally.with_foreground})")
    _say(NOTE)


def to_csv(figures: GuideReport) -> str:
    """One line a map and image; a cell is empty where there is nothing to measure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    compared = ["auroc_before"] if figures.tallies_before else []
    columns = [f"iou_{value:g}" for value in figures.thresholds]
    writer.writerow(["name", "image", "map", "auroc", *compared, *columns, "foreground", "low", "mean", "high", "dice"])
    for line in figures.lines:
        score = line.score
        before = [line.before] if compared else []
        values = [score.auroc, *before, *line.iou, score.foreground, score.low, score.mean, score.high, line.dice]
        cells = ["" if isnan(value) else f"{value:.6g}" for value in values]
        writer.writerow([line.name, line.image, score.map, *cells])
    return text.getvalue()


def to_json(figures: GuideReport) -> str:
    """The summary, and how it came to be; null where there is nothing to measure."""
    maps = []
    kinds = [(figures.tallies, figures.titles[0], False), (figures.tallies_before, figures.titles[1], True)]
    for tallies, title, before in kinds:
        for tally in tallies:
            values = figures.aurocs(tally.name, before=before)
            maps.append(
                {
                    "guide": title,
                    "map": tally.name,
                    "images": tally.total,
                    "auroc": {
                        "n": tally.used,
                        "mean": _number(mean(values) if values else float("nan")),
                        "median": _number(median(values) if values else float("nan")),
                        "worst": _number(min(values) if values else float("nan")),
                        "pooled": _number(tally.pooled_auroc),
                    },
                    "iou": {
                        "n": tally.with_foreground,
                        "mean": {f"{value:g}": _number(tally.mean_iou(value)) for value in figures.thresholds},
                    },
                    "low": tally.low,
                    "high": tally.high,
                }
            )
    content = {"guidino": __version__, **figures.facts, "thresholds": list(figures.thresholds), "maps": maps}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def format_score(value: float) -> str:
    """Three decimals, or a dash where there is nothing to measure."""
    return f"{value:.3f}" if isfinite(value) else "-"


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        # A long name goes on in a second line; figures are never cut.
        table.add_column(heading, justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table, markup=False, highlight=False)


def _say(line: str) -> None:
    from shutil import get_terminal_size
    from textwrap import fill

    print(
        fill(line, get_terminal_size().columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    )


PAGE_FILE = "guides.html"
MAX_IMAGES = 400
"""In the page; a browser gets slow with more, and the folder has all."""
_WIDTH = 1400
_EXTREMES = 3


def write_page(
    out: Path, *, heading: str, lines: Sequence[str], pictures: Iterable[Path], extra: Sequence[tuple[str, Path]],
    figures: GuideReport | None = None,
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

    write_atomically(out / PAGE_FILE, fill)


def _parts(
    heading: str, lines: Sequence[str], pictures: Iterable[Path], extra: Sequence[tuple[str, Path]],
    figures: GuideReport | None,
) -> Iterator[str]:  # fmt: skip
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(heading)}</title>'
    style = f"{render('style.css')}{_STYLE}"
    yield f'<!doctype html>\n<html lang="en"><head>{head}<style>{style}</style></head><body>'
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
        if number < MAX_IMAGES:
            yield f'<div id="{_anchor(path.stem)}">{_figure(path, escape(path.stem))}</div>'
        else:
            left += 1
    if left:
        yield f"<p>{left} more pictures are in the folder of this page.</p>"
    script = render("sort_table.js")
    yield f'<p class="small">guidino {escape(__version__)}</p><script>{script}</script></body></html>'


def _scores(figures: GuideReport) -> Iterator[str]:
    yield "<h2>Does the guide alone know where the foreground is?</h2>"
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADINGS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in summary_rows(figures)
    )
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


def _extremes(figures: GuideReport) -> Iterator[str]:
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
        links = ", ".join(f"{_link(line)} ({format_score(line.score.auroc)})" for line in lines)
        yield f"<p><b>{name} by AUROC:</b> {links}</p>"


def _table(figures: GuideReport) -> str:
    half = list(figures.thresholds).index(0.5)
    names = ["image", "map", "AUROC", "IoU at 0.5", "foreground", "lowest", "mean", "highest", "network's Dice"]
    head = "".join(f'<th><button type="button">{escape(name)}</button></th>' for name in names)
    rows = []
    for line in figures.lines:
        score = line.score
        cells = [format_score(value) for value in (score.auroc, line.iou[half], score.foreground)]
        cells += [format_score(value) for value in (score.low, score.mean, score.high, line.dice)]
        body = "".join(f"<td>{cell}</td>" for cell in [_link(line), escape(score.map), *cells])
        rows.append(f"<tr>{body}</tr>")
    table = f'<table id="cases"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _link(line: GuideScoreRow) -> str:
    return f'<a href="#{_anchor(f"{line.name}_guide")}">{escape(line.name)}</a>'


def _anchor(name: str) -> str:
    return "p-" + "".join(sign if sign.isalnum() else "-" for sign in name)


def _figure(path: Path, title: str, *, width: int = _WIDTH) -> str:
    with Image.open(path) as file:
        shape, address = file.size, data_uri(file, kind="webp", max_width=width)
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
