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

_MAX_TABLE_ROWS = 12
"""Images in the table on the terminal; guides.csv has all."""


@dataclass(frozen=True)
class GuideScoreRow:
    """Scores of one map of one image.

    Attributes:
        name: Name of the figure.
        image: Image file.
        score: Scores of the map, without its IoU curve.
        iou: IoU at each threshold of the report.
        dice: Dice of the network's prediction, NaN without truth.
        other_auroc: AUROC of the guide it is compared with, NaN without one.
    """

    name: str
    image: str
    score: MapScore
    iou: tuple[float, ...]
    dice: float
    other_auroc: float = float("nan")


@dataclass(frozen=True)
class MapSummary:
    """Scores of one map over all images.

    Attributes:
        guide: Title of the guide.
        scores: Accumulated scores.
        aurocs: AUROC of the images that have one.
    """

    guide: str
    scores: MapScoreAccumulator
    aurocs: Sequence[float]

    @property
    def auroc_statistics(self) -> tuple[float, float, float]:
        """Mean, median and minimum; NaN without any."""
        return (mean(self.aurocs), median(self.aurocs), min(self.aurocs)) if self.aurocs else (float("nan"),) * 3


@dataclass
class GuideReport:
    """Guide scores of a set of images.

    Attributes:
        source: Where the guide is from.
        accumulators: One per map.
        other_accumulators: Those of the guide it is compared with, if there is one.
        titles: Titles of the guide and of the other one.
        thresholds: Thresholds of the IoU.
        rows: One per map and image.
        facts: Entries of the JSON about the run and the figures.
    """

    source: str
    accumulators: Sequence[MapScoreAccumulator]
    other_accumulators: Sequence[MapScoreAccumulator]
    titles: tuple[str, str]
    thresholds: Sequence[float]
    rows: list[GuideScoreRow] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def has_truth(self) -> bool:
        """Whether any image has truth."""
        return any(not isnan(row.score.foreground) for row in self.rows)

    def add(self, name: str, result: GuideResult) -> None:
        """Add the scores of one image."""
        dice = float("nan") if result.view.dice is None else result.view.dice
        for index, score in enumerate(result.scores):
            iou = tuple(score.iou_at(threshold) for threshold in self.thresholds)
            kept = MapScore(score.map, score.low, score.mean, score.high, score.foreground, score.auroc)
            other_auroc = result.other_scores[index].auroc if result.other_scores else float("nan")
            self.rows.append(GuideScoreRow(name, str(result.path), kept, iou, dice, other_auroc))

    def summaries(self) -> list[MapSummary]:
        """One per map of the guide, in the order of its maps."""
        return [
            MapSummary(self.titles[0], item, _finite(row.score.auroc for row in self._rows_of(item)))
            for item in self.accumulators
        ]

    def other_summaries(self) -> list[MapSummary]:
        """The same for the guide it is compared with; empty without one."""
        return [
            MapSummary(self.titles[1], item, _finite(row.other_auroc for row in self._rows_of(item)))
            for item in self.other_accumulators
        ]

    def _rows_of(self, accumulator: MapScoreAccumulator) -> Iterator[GuideScoreRow]:
        return (row for row in self.rows if row.score.map == accumulator.name)


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if isfinite(value)]


HEADINGS = ("guide", "n", "AUROC mean", "median", "worst", "pooled", "IoU .5")
NOTE = (
    "AUROC: does the guide rank foreground pixels above the others? 1 always, 0.5 knows nothing; no threshold. "
    "n: images with both kinds of pixels of all. pooled: over the pixels of all images."
)


def summary_rows(report: GuideReport) -> list[tuple[str, ...]]:
    """Cells under `HEADINGS`, one row per map; the guide it is compared with comes first."""
    rows = []
    for summary in [*report.other_summaries(), *report.summaries()]:
        scores = summary.scores
        name = f"{summary.guide}: {scores.name}" if report.other_accumulators else scores.name
        cells = (*summary.auroc_statistics, scores.pooled_auroc, scores.mean_iou(0.5))
        rows.append((name, f"{scores.used}/{scores.total}", *map(format_score, cells)))
    return rows


def print_report(report: GuideReport) -> None:
    """Print the scores in at most 80 columns, in plain ASCII where the locale requires it."""
    if not report.has_truth:
        ranges = ", ".join(f"{item.name} {item.low:.3f} to {item.high:.3f}" for item in report.accumulators)
        print(f"guide values: {ranges}; give --truth to learn how well they tell foreground from background")
        return
    if 1 < len({row.name for row in report.rows}) <= _MAX_TABLE_ROWS:
        half = list(report.thresholds).index(0.5)
        has_several_maps = len({row.score.map for row in report.rows}) > 1
        rows = [
            (
                f"{row.name} ({row.score.map})" if has_several_maps else row.name,
                format_score(row.score.auroc),
                format_score(row.iou[half]),
                f"{row.score.low:.2f}..{row.score.high:.2f}",
                format_score(row.dice),
            )
            for row in report.rows
        ]
        _print_table(("image", "AUROC", "IoU at 0.5", "values", "network's Dice"), rows)
    _print_table(HEADINGS, summary_rows(report))
    for item in report.accumulators:
        curve = ", ".join(f"{value:g}: {format_score(item.mean_iou(value))}" for value in report.thresholds)
        name = f", {item.name}" if len(report.accumulators) > 1 else ""
        _print_wrapped(f"mean IoU by threshold{name}: {curve} (n {item.with_foreground})")
    _print_wrapped(NOTE)


def to_csv(report: GuideReport) -> str:
    """One line per map and image; a cell is empty where a score is undefined."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    other = ["auroc_before"] if report.other_accumulators else []
    columns = [f"iou_{value:g}" for value in report.thresholds]
    writer.writerow(["name", "image", "map", "auroc", *other, *columns, "foreground", "low", "mean", "high", "dice"])
    for row in report.rows:
        score = row.score
        other_auroc = [row.other_auroc] if other else []
        values = [score.auroc, *other_auroc, *row.iou, score.foreground, score.low, score.mean, score.high, row.dice]
        cells = ["" if isnan(value) else f"{value:.6g}" for value in values]
        writer.writerow([row.name, row.image, score.map, *cells])
    return text.getvalue()


def to_json(report: GuideReport) -> str:
    """The scores over all images, with `facts`; null where a score is undefined."""
    maps = []
    for summary in [*report.summaries(), *report.other_summaries()]:
        scores = summary.scores
        names = ("mean", "median", "worst", "pooled")
        aurocs = dict(zip(names, (*summary.auroc_statistics, scores.pooled_auroc), strict=True))
        mean_ious = {f"{value:g}": _or_none(scores.mean_iou(value)) for value in report.thresholds}
        maps.append(
            {
                "guide": summary.guide,
                "map": scores.name,
                "images": scores.total,
                "auroc": {"n": scores.used, **{name: _or_none(value) for name, value in aurocs.items()}},
                "iou": {"n": scores.with_foreground, "mean": mean_ious},
                "low": scores.low,
                "high": scores.high,
            }
        )
    content = {"guidino": __version__, **report.facts, "thresholds": list(report.thresholds), "maps": maps}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def format_score(value: float) -> str:
    """Three decimals, or a dash for an undefined score."""
    return f"{value:.3f}" if isfinite(value) else "-"


def _or_none(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        # A long name is folded into a second line; numbers are never cut.
        table.add_column(heading, justify="right" if number else "left", no_wrap=number > 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table, markup=False, highlight=False)


def _print_wrapped(line: str) -> None:
    from shutil import get_terminal_size
    from textwrap import fill

    width = get_terminal_size().columns
    print(fill(line, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))


PAGE_FILE = "guides.html"
MAX_IMAGES = 400
"""In the page; a browser gets slow with more, and the folder has all."""
_WIDTH = 1400
_EXTREMES = 3


def write_page(
    out: Path, *, heading: str, lines: Sequence[str], pictures: Iterable[Path], extra: Sequence[tuple[str, Path]],
    report: GuideReport | None = None,
) -> None:  # fmt: skip
    """Write the page; it loads nothing from anywhere, and is never in memory as a whole.

    Args:
        out: Folder of the page and of the pictures.
        heading: Title.
        lines: What a reader must know about all pictures.
        pictures: NAME_guide.png and so on, in order.
        extra: Titles and files of pictures of the whole set.
        report: Scores, if there are any.
    """

    def fill(place: Path) -> None:
        with place.open("w", encoding="utf-8", newline="\n") as file:
            for part in _parts(heading, lines, pictures, extra, report):
                file.write(part + "\n")

    write_atomically(out / PAGE_FILE, fill)


def _parts(
    heading: str, lines: Sequence[str], pictures: Iterable[Path], extra: Sequence[tuple[str, Path]],
    report: GuideReport | None,
) -> Iterator[str]:  # fmt: skip
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(heading)}</title>'
    style = f"{render('style.css')}{_STYLE}"
    yield f'<!doctype html>\n<html lang="en"><head>{head}<style>{style}</style></head><body>'
    yield f"<h1>{escape(heading)}</h1>"
    yield "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
    if report is not None and report.has_truth:
        yield from _scores(report)
    for title, path in extra:
        yield f"<h2>{escape(title)}</h2>" + _figure(path, escape(title), width=1900)
    if report is not None:
        yield "<h2>All images</h2>" + _table(report)
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


def _scores(report: GuideReport) -> Iterator[str]:
    yield "<h2>Does the guide alone know where the foreground is?</h2>"
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADINGS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in summary_rows(report)
    )
    yield f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    yield f'<p class="small">{escape(NOTE)} IoU: mean over the images with foreground.</p>'
    yield '<div class="grid">'
    for summary in report.summaries():
        if summary.aurocs:
            item, (average, middle, _) = summary.scores, summary.auroc_statistics
            title = "AUROC of the guide" + (f", {item.name}" if len(report.accumulators) > 1 else "")
            yield histogram_svg(summary.aurocs, title=title, is_share=True, mean=average, median=middle)
            yield _curve_svg(report.thresholds, [item.mean_iou(value) for value in report.thresholds], item.name)
    yield "</div>"
    yield '<p class="small">Left: images by AUROC; solid line: mean, dashed: median. Right: mean IoU by threshold, '
    yield "which chooses none: a threshold picked on the images that are scored would flatter the guide.</p>"
    yield from _extremes(report)


def _extremes(report: GuideReport) -> Iterator[str]:
    """Links to the worst, median and best images; their pictures follow below, once."""
    last = report.accumulators[-1].name
    ranked = sorted(
        (row for row in report.rows if row.score.map == last and isfinite(row.score.auroc)),
        key=lambda row: row.score.auroc,
    )
    if len(ranked) < 2 * _EXTREMES:
        return
    middle = max(0, len(ranked) // 2 - 1)
    groups = {
        "worst": ranked[:_EXTREMES],
        "median": ranked[middle : middle + _EXTREMES],
        "best": ranked[::-1][:_EXTREMES],
    }
    for name, rows in groups.items():
        links = ", ".join(f"{_link(row)} ({format_score(row.score.auroc)})" for row in rows)
        yield f"<p><b>{name} by AUROC:</b> {links}</p>"


def _table(report: GuideReport) -> str:
    half = list(report.thresholds).index(0.5)
    names = ["image", "map", "AUROC", "IoU at 0.5", "foreground", "lowest", "mean", "highest", "network's Dice"]
    head = "".join(f'<th><button type="button">{escape(name)}</button></th>' for name in names)
    rows = []
    for row in report.rows:
        score = row.score
        cells = [format_score(value) for value in (score.auroc, row.iou[half], score.foreground)]
        cells += [format_score(value) for value in (score.low, score.mean, score.high, row.dice)]
        body = "".join(f"<td>{cell}</td>" for cell in [_link(row), escape(score.map), *cells])
        rows.append(f"<tr>{body}</tr>")
    table = f'<table id="cases"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="scroll">{table}</div>'


def _link(row: GuideScoreRow) -> str:
    return f'<a href="#{_anchor(f"{row.name}_guide")}">{escape(row.name)}</a>'


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
