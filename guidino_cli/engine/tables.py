"""The summary as rows of text, the same for the terminal, Markdown and the HTML page."""

import math

from guidino_cli.engine.evaluation import Evaluation, Line
from guidino_cli.metrics import METRICS

HEADINGS = ("figure", "n used/total", "mean", "std", "median", "95 % CI of mean")


def table_rows(evaluation: Evaluation) -> list[tuple[str, list[tuple[str, ...]]]]:
    """(target, its rows) in order; every row has a cell for each of `HEADINGS`."""
    blocks: dict[str, list[tuple[str, ...]]] = {}
    for line in evaluation.lines:
        blocks.setdefault(line.target, []).append(_row(line, evaluation.unit))
    return list(blocks.items())


def label(metric: str, unit: str) -> str:
    """Heading of a figure with its unit: `HD95 px`."""
    return METRICS[metric].label + (f" {unit}" if METRICS[metric].kind == "distance" else "")


def digits(value: float, metric: str) -> str:
    """A figure for people: four digits for shares, two for distances, a dash for none."""
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if METRICS[metric].kind == "distance" else f"{value:.4f}"


def _row(line: Line, unit: str) -> tuple[str, ...]:
    summary = line.summary
    low, high = digits(summary.ci_low, line.metric), digits(summary.ci_high, line.metric)
    return (
        label(line.metric, unit),
        f"{summary.used}/{summary.total}",
        digits(summary.mean, line.metric),
        digits(summary.std, line.metric),
        digits(summary.median, line.metric),
        "-" if low == "-" else f"{low} .. {high}",
    )
