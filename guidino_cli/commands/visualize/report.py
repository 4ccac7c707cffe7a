"""Scores of guides, and their output on the terminal, in `guides.csv` and in `guides.json`."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite, isnan
from pathlib import Path
from statistics import mean, median
from typing import Any, Protocol

from guidino_cli import __version__, tables
from guidino_cli.commands.text_tables import print_table, print_wrapped
from guidino_cli.engine.guides.scores import MapScore, MapScoreAccumulator
from guidino_cli.files import relative_posix

_MAX_TABLE_ROWS = 12
"""Images in the table on the terminal; guides.csv has all."""


class ScoredView(Protocol):
    """A drawn image or volume."""

    @property
    def dice(self) -> float | None:
        """Dice of the prediction; None without truth."""


class ScoredResult(Protocol):
    """Reported scores of an image or a volume.

    Attributes:
        path: Its file.
        view: Holds the Dice of the prediction.
        scores: One per map, then "any class" where there are several.
        other_scores: The same for the guide it is compared with; empty without one.
    """

    @property
    def path(self) -> Path: ...

    @property
    def view(self) -> ScoredView: ...

    @property
    def scores(self) -> Sequence[MapScore]: ...

    @property
    def other_scores(self) -> Sequence[MapScore]: ...


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
        nouns: What was drawn and what it consists of, for texts: images of pixels, or volumes of voxels.
    """

    source: str
    accumulators: Sequence[MapScoreAccumulator]
    other_accumulators: Sequence[MapScoreAccumulator]
    titles: tuple[str, str]
    thresholds: Sequence[float]
    rows: list[GuideScoreRow] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    nouns: tuple[str, str] = ("image", "pixel")

    @property
    def has_truth(self) -> bool:
        """Whether any image has truth."""
        return any(not isnan(row.score.foreground) for row in self.rows)

    def add(self, name: str, result: ScoredResult) -> None:
        """Add the scores of one image or volume."""
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

    @property
    def image_folder(self) -> Path:
        """The deepest folder that holds all images; `guides.csv` names them relative to it."""
        return Path(os.path.commonpath([os.path.dirname(os.path.abspath(row.image)) for row in self.rows]))

    def _rows_of(self, accumulator: MapScoreAccumulator) -> Iterator[GuideScoreRow]:
        return (row for row in self.rows if row.score.map == accumulator.name)


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if isfinite(value)]


HEADINGS = ("guide", "n", "AUROC mean", "median", "worst", "pooled", "IoU .5")


def score_note(report: GuideReport) -> str:
    """Sentence on the meaning of the columns of the summary."""
    whole, part = report.nouns
    return (
        f"AUROC: does the guide rank foreground {part}s above the others? 1 always, 0.5 knows nothing; no threshold. "
        f"n: {whole}s with both kinds of {part}s of all. pooled: over the {part}s of all {whole}s."
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
        print(f"guide values: {ranges}; give --truth to measure how well they separate foreground from background")
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
        print_table((report.nouns[0], "AUROC", "IoU at 0.5", "values", "network's Dice"), [("", rows)])
    print_table(HEADINGS, [("", summary_rows(report))])
    for item in report.accumulators:
        curve = ", ".join(f"{value:g}: {format_score(item.mean_iou(value))}" for value in report.thresholds)
        name = f", {item.name}" if len(report.accumulators) > 1 else ""
        print_wrapped(f"mean IoU by threshold{name}: {curve} (n {item.with_foreground})")
    print_wrapped(score_note(report))


def to_csv(report: GuideReport) -> str:
    """One line per map and image; a cell is empty where a score is undefined.

    Images are relative to the `image_folder` that `guides.json` states.
    """
    folder = report.image_folder
    other = ["auroc_before"] if report.other_accumulators else []
    columns = [f"iou_{value:g}" for value in report.thresholds]
    headings = ["name", "image", "map", "auroc", *other, *columns, "foreground", "low", "mean", "high", "dice"]
    lines = []
    for row in report.rows:
        score = row.score
        other_auroc = [row.other_auroc] if other else []
        values = [score.auroc, *other_auroc, *row.iou, score.foreground, score.low, score.mean, score.high, row.dice]
        cells = ["" if isnan(value) else f"{value:.6g}" for value in values]
        image = relative_posix(Path(os.path.abspath(row.image)), folder)
        lines.append([row.name, image, score.map, *cells])
    return tables.to_csv(headings, lines)


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
    places = {"image_folder": str(report.image_folder)}
    content = {"guidino": __version__, **report.facts, **places, "thresholds": list(report.thresholds), "maps": maps}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def format_score(value: float) -> str:
    """Three decimals, or a dash for an undefined score."""
    return f"{value:.3f}" if isfinite(value) else "-"


def _or_none(value: float) -> float | None:
    return float(value) if isfinite(value) else None
