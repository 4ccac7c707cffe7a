"""`guides.html`: the scores of guides and all figures on one page that loads nothing from elsewhere."""

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from PIL import Image

from guidino_cli import __version__
from guidino_cli.commands.visualize.report import (
    HEADINGS,
    GuideReport,
    GuideScoreRow,
    format_score,
    score_note,
    summary_rows,
)
from guidino_cli.files import write_atomically
from guidino_cli.html import Markup, render, stream
from guidino_cli.plots.report import data_uri, histogram_svg

PAGE_FILE = "guides.html"
MAX_IMAGES = 400
"""Figures on the page; browsers get slow with more, and the folder has all."""
_IMAGE_WIDTH, _OVERVIEW_WIDTH = 1400, 1900
_EXAMPLES = 3
_SCORE_HEADINGS = (
    "map",
    "AUROC",
    "IoU at 0.5",
    "foreground",
    "lowest",
    "mean",
    "highest",
    "network's Dice",
)


def write_page(
    out: Path,
    *,
    heading: str,
    notes: Sequence[str],
    images: Sequence[Path],
    overviews: Sequence[tuple[str, Path]],
    report: GuideReport | None = None,
) -> None:
    """Write the page piece by piece, so that it is never in memory as a whole.

    Args:
        out: Folder of the page and of the figures.
        heading: Title.
        notes: Remarks about all figures.
        images: NAME_guide.png and so on, in order.
        overviews: Titles and files of figures of the whole set.
        report: Scores, if there are any.
    """
    values = {
        "version": __version__,
        "heading": heading,
        "notes": notes,
        "overviews": (_embed(path, title, max_width=_OVERVIEW_WIDTH) for title, path in overviews),
        "images": (_embed(path, path.stem, max_width=_IMAGE_WIDTH) for path in images[:MAX_IMAGES]),
        "omitted_images": max(0, len(images) - MAX_IMAGES),
        **_score_values(report),
    }

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(stream("guides.html.j2", **values))

    write_atomically(out / PAGE_FILE, write)


def _score_values(report: GuideReport | None) -> dict[str, Any]:
    has_truth = report is not None and report.has_truth
    noun = "image" if report is None else report.nouns[0]
    return {
        "noun": noun,
        "headings": HEADINGS,
        "score_note": "" if report is None else score_note(report),
        "score_headings": (noun, *_SCORE_HEADINGS),
        "summary": summary_rows(report) if report is not None and has_truth else [],
        "plots": list(_plots(report)) if report is not None and has_truth else [],
        "examples": _examples(report) if report is not None and has_truth else [],
        "score_rows": [] if report is None else [_score_cells(row, report) for row in report.rows],
    }


def _plots(report: GuideReport) -> Iterator[Markup]:
    """For each map a histogram of AUROC and the curve of mean IoU."""
    for summary in report.summaries():
        if summary.aurocs:
            scores, (average, middle, _) = summary.scores, summary.auroc_statistics
            name = scores.name if len(report.accumulators) > 1 else ""
            title = "AUROC of the guide" + (f", {name}" if name else "")
            yield histogram_svg(summary.aurocs, title=title, is_share=True, mean=average, median=middle)
            yield _curve_svg(report.thresholds, [scores.mean_iou(value) for value in report.thresholds], name)


def _examples(report: GuideReport) -> list[tuple[str, list[tuple[Markup, str]]]]:
    """Links to the worst, median and best images, whose figures follow below; none for a small set."""
    last = report.accumulators[-1].name
    rows = [row for row in report.rows if row.score.map == last and isfinite(row.score.auroc)]
    rows.sort(key=lambda row: row.score.auroc)
    if len(rows) < 2 * _EXAMPLES:
        return []
    middle = max(0, len(rows) // 2 - 1)
    groups = {
        "worst": rows[:_EXAMPLES],
        "median": rows[middle : middle + _EXAMPLES],
        "best": rows[::-1][:_EXAMPLES],
    }
    return [(name, [(_link(row), format_score(row.score.auroc)) for row in group]) for name, group in groups.items()]


def _score_cells(row: GuideScoreRow, report: GuideReport) -> list[str | Markup]:
    score, half = row.score, list(report.thresholds).index(0.5)
    values = (score.auroc, row.iou[half], score.foreground, score.low, score.mean, score.high, row.dice)
    return [_link(row), score.map, *map(format_score, values)]


def _link(row: GuideScoreRow) -> Markup:
    return Markup('<a href="#{}">{}</a>').format(_anchor(f"{row.name}_guide"), row.name)


def _anchor(name: str) -> str:
    return "p-" + "".join(character if character.isalnum() else "-" for character in name)


def _embed(path: Path, title: str, *, max_width: int) -> dict[str, Any]:
    with Image.open(path) as file:
        (width, height), uri = file.size, data_uri(file, kind="webp", max_width=max_width)
    return {"title": title, "anchor": _anchor(path.stem), "width": width, "height": height, "uri": uri}


def _curve_svg(thresholds: Sequence[float], values: Sequence[float], name: str) -> Markup:
    """Mean IoU by threshold as a line; empty for fewer than two points."""
    known = {at: value for at, value in zip(thresholds, values, strict=True) if isfinite(value)}
    if len(known) < 2:
        return Markup()
    width, height, left, base, top = 320, 150, 34, 126, 28
    right = width - 14
    low, high = min(known), max(known)
    at_half = f", {known[0.5]:.3f} at 0.5" if 0.5 in known else ""
    return render(
        "curve.svg.j2",
        title=f"{name}: mean IoU{at_half}" if name else f"mean IoU by threshold{at_half}",
        width=width,
        height=height,
        left=left,
        right=right,
        base=base,
        top=top,
        lowest=f"{low:g}",
        highest=f"{high:g}",
        points=[
            (
                left + (at - low) / (high - low) * (right - left),
                base - value * (base - top),
                4 if at == 0.5 else 2.5,
                f"{at:g}: {value:.3f}",
            )
            for at, value in known.items()
        ],
    )
