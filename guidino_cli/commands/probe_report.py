"""Output of a probe: tables on the terminal and files of the report folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.commands.text_tables import print_table, print_wrapped
from guidino_cli.errors import UserError
from guidino_cli.evaluation.probes.attention import ATTENTION_HEADINGS, attention_rows, instances_of, mean_attention
from guidino_cli.evaluation.probes.page import to_html
from guidino_cli.evaluation.probes.pictures import SamplePictures
from guidino_cli.evaluation.probes.places import grid_places
from guidino_cli.evaluation.probes.report import (
    HEADINGS,
    ProbeReport,
    caption,
    endings,
    predictions_csv,
    sanity_lines,
    summary_csv,
    table_rows,
)
from guidino_cli.evaluation.report.files import dump_json
from guidino_cli.files import write_atomically, write_text
from guidino_cli.plots.probes import plot_attention, plot_attention_map
from guidino_cli.progress import log_warning, pluralize
from guidino_cli.tables import to_csv

_TILES = 40
_SHEETS_FOLDER = "attention"


def write_report(out: Path, report: ProbeReport, content: Mapping[str, Any], *, created: str, sheets: int) -> list[str]:
    """Write the report and return the names of its files; report.json comes last: with it, the folder is complete."""
    names = ["report.html", "report.json", "summary.csv", "predictions.csv"]
    write_text(out / "summary.csv", summary_csv(report))
    write_text(out / "predictions.csv", predictions_csv(report))
    if report.headline.attention:
        rows = [line for row in report.rows if row.attention for line in attention_rows(row, report.data)]
        write_text(out / "attention.csv", to_csv(ATTENTION_HEADINGS, rows))
        names.append("attention.csv")
        if drawn := _draw_sheets(out, report, sheets):
            names.append(f"{pluralize(drawn, 'sheet')} in {_SHEETS_FOLDER}/")
    write_text(out / "report.html", to_html(report, created=created))
    write_text(out / "report.json", dump_json(content))
    return names


def print_report(report: ProbeReport, out: Path, written: list[str]) -> None:
    """Print the summary; it fits 80 columns."""
    print_table(HEADINGS, [("", table_rows(report))], collapse_padding=True)
    for line in [*caption(report), *endings(report), *sanity_lines(report)]:
        print_wrapped(line)
    for gate in report.gates:
        print_wrapped(gate.sentence)
    print_wrapped(f"wrote {out}: {', '.join(written)}")


def _draw_sheets(out: Path, report: ProbeReport, count: int) -> int:
    """Draw the attention of the bags that the headline is surest of, of each true class and outcome in turn."""
    attention = mean_attention(report.headline)
    pictures = SamplePictures(report.headline.source.folder)
    drawn = 0
    for number, (place, title) in enumerate(_choose_bags(report, count), start=1):
        sample, weights = report.data.samples[place], attention[place]
        owners = list(instances_of(sample))
        try:
            figure = _sheet(pictures, report, place, weights, owners, title)
        except UserError as error:
            log_warning(f"{sample.id}: its attention is not drawn ({error})")
            continue
        write_atomically(out / _SHEETS_FOLDER / f"{number:02d}.png", figure.savefig)
        drawn += 1
    return drawn


def _sheet(
    pictures: SamplePictures, report: ProbeReport, place: int, weights: np.ndarray, owners: list, title: str
) -> Any:
    sample = report.data.samples[place]
    places = grid_places([member.item.path.stem for member, _ in owners]) if len(sample.members) > 1 else None
    if places is not None:
        tiles = pictures.read(sample, range(len(owners)))
        return plot_attention_map(tiles, places, weights.tolist(), title=title)
    order = np.argsort(-weights, kind="stable")[:_TILES]
    tiles = pictures.read(sample, order.tolist())
    left_out = max(0, len(owners) - len(order))
    # Of a single slice, as of a single tile, the file says more than a number that is not always known.
    if len(sample.members) > 1 or len(owners) == 1:
        names = [owners[at][0].item.path.name for at in order]
        return plot_attention(tiles, weights[order].tolist(), names, title=title, left_out=left_out)
    slices = [found for member, number in owners if (found := pictures.slice_of(member, number)) is not None]
    names = [f"slice {slices[at]}" for at in order]
    return plot_attention(
        tiles, weights[order].tolist(), names, title=title, left_out=left_out, profile=(slices, weights.tolist())
    )


def _choose_bags(report: ProbeReport, count: int) -> list[tuple[int, str]]:
    """Positions and titles: right and wrong bags of each class in turn, the surest of each first."""
    groups: dict[tuple[str, str], list[tuple[float, int, str]]] = {}
    run = report.headline.runs[0]
    for place, scores, called in zip(run.partition.test.tolist(), run.fit.test, run.called, strict=True):
        sample, truth = report.data.samples[place], report.data.labels[place]
        names = [name for name, value in zip(report.data.classes, truth, strict=True) if value == 1]
        found = [name for name, value in zip(report.data.classes, called, strict=True) if value]
        # What is unknown is neither right nor wrong.
        outcome = "right" if (called == (truth == 1))[truth >= 0].all() else "wrong"
        title = f"{sample.id}: true {', '.join(names) or 'none'}, called {', '.join(found) or 'none'}"
        groups.setdefault((", ".join(names), outcome), []).append((float(-np.max(scores)), place, title))
    queues = [sorted(members) for _, members in sorted(groups.items())]
    chosen: list[tuple[int, str]] = []
    while len(chosen) < count and any(queues):
        for queue in queues:
            if queue and len(chosen) < count:
                _, place, title = queue.pop(0)
                chosen.append((place, title))
    return chosen
