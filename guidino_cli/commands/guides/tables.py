"""The figures of guides: a table on the terminal, `guides.csv` and `guides.json`."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, isnan
from statistics import mean, median
from typing import Any

from guidino_cli import __version__
from guidino_cli.commands.guides.looks import Look
from guidino_cli.engine.guides.scores import MapScore, Tally

_SHOWN = 12
"""Images in the table on the terminal; guides.csv has all."""


@dataclass(frozen=True)
class Line:
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
class Figures:
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
    tallies: Sequence[Tally]
    tallies_before: Sequence[Tally]
    titles: tuple[str, str]
    thresholds: Sequence[float]
    lines: list[Line] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def has_truth(self) -> bool:
        """Whether any image had a truth."""
        return any(not isnan(line.score.foreground) for line in self.lines)

    def add(self, name: str, look: Look) -> None:
        """The figures of one image."""
        dice = float("nan") if look.view.dice is None else look.view.dice
        for place, score in enumerate(look.scores):
            iou = tuple(score.iou_at(threshold) for threshold in self.thresholds)
            kept = MapScore(score.map, score.low, score.mean, score.high, score.foreground, score.auroc)
            before = look.before[place].auroc if look.before else float("nan")
            self.lines.append(Line(name, str(look.path), kept, iou, dice, before))

    def aurocs(self, map_name: str, *, before: bool = False) -> list[float]:
        """AUROC of one map in the images that have one."""
        values = [line.before if before else line.score.auroc for line in self.lines if line.score.map == map_name]
        return [value for value in values if isfinite(value)]


HEADINGS = ("guide", "n", "AUROC mean", "median", "worst", "pooled", "IoU .5")
NOTE = (
    "AUROC: does the guide rank foreground pixels above the others? 1 always, 0.5 knows nothing; no threshold. "
    "n: images with both kinds of pixels of all. pooled: over the pixels of all images."
)


def summary(figures: Figures) -> list[tuple[str, ...]]:
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
            cells = [digits(value) for value in (*spread, tally.pooled_auroc, tally.mean_iou(0.5))]
            rows.append((name, f"{tally.used}/{tally.total}", *cells))
    return rows


def show(figures: Figures) -> None:
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
                digits(line.score.auroc),
                digits(line.iou[half]),
                f"{line.score.low:.2f}..{line.score.high:.2f}",
                digits(line.dice),
            )
            for line in figures.lines
        ]
        _print(("image", "AUROC", "IoU at 0.5", "values", "network's Dice"), rows)
    _print(HEADINGS, summary(figures))
    for tally in figures.tallies:
        curve = ", ".join(f"{value:g}: {digits(tally.mean_iou(value))}" for value in figures.thresholds)
        name = f", {tally.name}" if len(figures.tallies) > 1 else ""
        _say(f"mean IoU by threshold{name}: {curve} (n {tally.with_foreground})")
    _say(NOTE)


def to_csv(figures: Figures) -> str:
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


def to_json(figures: Figures) -> str:
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


def digits(value: float) -> str:
    """Three decimals, or a dash where there is nothing to measure."""
    return f"{value:.3f}" if isfinite(value) else "-"


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _print(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
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
