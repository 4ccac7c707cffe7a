"""The HTML page of a probe: summary with controls, ROC, confusion, calibration, and the most confident errors."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from guidino_cli import __version__
from guidino_cli.evaluation.probes.attention import mean_attention
from guidino_cli.evaluation.probes.pictures import SamplePictures
from guidino_cli.evaluation.probes.report import (
    HEADINGS,
    ProbeReport,
    caption,
    endings,
    format_interval,
    format_score,
    sanity_lines,
    table_rows,
)
from guidino_cli.evaluation.probes.rows import ProbeRow
from guidino_cli.evaluation.probes.scores import MACRO, METRIC_NAMES
from guidino_cli.html import render
from guidino_cli.plots.probes import ScoreCurve, plot_calibration, plot_confusion, plot_roc
from guidino_cli.plots.report import data_uri, downsample

_PANELS = 6
_ERRORS = 12
_LONGEST_SIDE = 300
_LABELS = {"auc": "AUC", "ap": "average precision", "balanced_accuracy": "balanced accuracy", "f1": "F1"}


def to_html(report: ProbeReport, *, created: str) -> str:
    """Render the page; it loads nothing from elsewhere."""
    headline = report.headline
    errors = list(find_errors(report))
    return render(
        "probe.html.j2",
        version=__version__,
        probe=report.probe,
        origin=[
            f"features: {headline.source.folder.path}, of {headline.source.folder.about['source']}",
            f"backbone: {headline.source.name}, SHA-256 {headline.source.folder.about['backbone']['sha256']}",
            f"made: {created[:16].replace('T', ' ')}",
        ],
        warnings=[*report.notes, *(line for line in sanity_lines(report) if "SUSPICIOUS" in line)],
        boxes=[_box(headline, name) for name in _LABELS],
        headline=f"Features of {headline.source.name}, solver {headline.solver}, averaged over the classes; the "
        "controls below tell what these figures mean.",
        gates=report.gates,
        headings=HEADINGS,
        rows=table_rows(report),
        notes=caption(report),
        endings=endings(report),
        sanity=sanity_lines(report),
        figures=list(_figures(report)),
        errors=[_draw_error(report, *error) for error in errors],
        errors_note=f"Tested samples that {headline.name} decided wrongly, the surest first.",
        class_headings=["features", "solver", "class", *METRIC_NAMES[:-1]],
        class_rows=list(_class_rows(report)),
    )


def _box(row: ProbeRow, metric: str) -> dict[str, str]:
    score = row.scores[MACRO, metric]
    return {"label": _LABELS[metric], "mean": format_score(score.mean), "interval": format_interval(score)}


def _figures(report: ProbeReport) -> Iterator[tuple[str, str, str]]:
    """Title, note and picture of each figure."""
    headline = report.headline
    shown = report.compared
    is_one_solver = len({row.solver for row in shown}) == 1
    how = f"solver {headline.solver}" if is_one_solver else "with the k that is best on its validation"
    targets = [number for number, name in enumerate(report.data.classes) if (name, "auc") in headline.scores]
    more = f" The first {_PANELS} of {len(targets)} classes." if len(targets) > _PANELS else ""
    pooled = " Scores of all runs together." if len(report.partitions) > 1 else ""
    panels = [
        (report.data.classes[number], [_curve(row, report, number) for row in shown]) for number in targets[:_PANELS]
    ]
    yield "ROC", f"Each kind of features, {how}.{more}{pooled}", _uri(plot_roc(panels))
    if not report.data.is_multilabel:
        matrix = _confusion(report)
        note = f"Of {headline.name}: samples, and their share of the true class.{pooled}"
        yield "Confusion", note, _uri(plot_confusion(matrix, report.data.classes))
    own = [(name, [replace(curves[0], name=headline.source.name)]) for name, curves in panels]
    note = f"Of {headline.name}: on the diagonal a score is the share of positives.{more}{pooled}"
    yield "Calibration", note, _uri(plot_calibration(own))


def _curve(row: ProbeRow, report: ProbeReport, number: int) -> ScoreCurve:
    labels = report.data.labels
    scores = np.concatenate([run.fit.test[:, number] for run in row.runs])
    truth = np.concatenate([labels[run.partition.test, number] for run in row.runs])
    known = truth >= 0
    auc = row.scores[report.data.classes[number], "auc"].mean
    name = row.source.name if row.solver == report.headline.solver else row.name
    return ScoreCurve(f"{name} {format_score(auc)}", scores[known], truth[known] == 1)


def _confusion(report: ProbeReport) -> np.ndarray:
    labels, count = report.data.labels, len(report.data.classes)
    matrix = np.zeros((count, count), np.int64)
    for run in report.headline.runs:
        np.add.at(matrix, (labels[run.partition.test].argmax(axis=1), run.called.argmax(axis=1)), 1)
    return matrix


def find_errors(report: ProbeReport) -> Iterator[tuple[int, str, str]]:
    """Position, what was decided and what is true of the surest errors of the headline, each sample once."""
    labels, classes = report.data.labels, report.data.classes
    found: dict[int, tuple[float, str, str]] = {}
    for run in report.headline.runs:
        for place, scores, called in zip(run.partition.test.tolist(), run.fit.test, run.called, strict=True):
            truth = labels[place]
            if report.data.is_multilabel:
                wrong = np.flatnonzero((truth >= 0) & (called != (truth == 1)))
                margins = np.where(called[wrong], scores[wrong], 1 - scores[wrong])
                if not wrong.size:
                    continue
                worst = int(wrong[margins.argmax()])
                entry = (
                    float(margins.max()),
                    f"{'' if called[worst] else 'no '}{classes[worst]} at {scores[worst]:.3f}",
                    f"{'' if truth[worst] == 1 else 'no '}{classes[worst]}",
                )
            else:
                chosen, true = int(called.argmax()), int(truth.argmax())
                if chosen == true:
                    continue
                entry = (float(scores[chosen]), f"{classes[chosen]} at {scores[chosen]:.3f}", classes[true])
            if place not in found or entry[0] > found[place][0]:
                found[place] = entry
    ranked = sorted(found.items(), key=lambda item: -item[1][0])
    for place, (_, called_as, true_as) in ranked[:_ERRORS]:
        yield place, called_as, true_as


def _draw_error(report: ProbeReport, place: int, called: str, true: str) -> dict[str, Any]:
    sample = report.data.samples[place]
    lines = [f"called {called}", f"true: {true}"]
    attention = mean_attention(report.headline).get(place) if report.headline.attention else None
    reader = SamplePictures(report.headline.source.folder)
    pixels, note = reader.show(sample, None if attention is None else int(attention.argmax()))
    name = sample.id if len(sample.id) <= 40 else f"...{sample.id[-38:]}"
    lines += [note] if note else []
    if pixels is None:
        return {"name": name, "lines": lines, "uri": ""}
    return {
        "name": name,
        "lines": lines,
        "uri": data_uri(Image.fromarray(downsample(pixels, _LONGEST_SIDE)), kind="webp"),
    }


def _class_rows(report: ProbeReport) -> Iterator[Sequence[str]]:
    for row in report.rows:
        for target in dict.fromkeys(target for target, _ in row.scores):
            values = [row.scores.get((target, metric)) for metric in METRIC_NAMES[:-1]]
            cells = ["" if score is None else format_score(score.mean) for score in values]
            yield [row.source.name, row.solver, target, *cells]


def _uri(figure: Any) -> str:
    content = io.BytesIO()
    figure.savefig(content, dpi=110)
    return data_uri(Image.open(content), kind="png")
