"""What a probe found, and its files: JSON and CSV tables."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from guidino_cli import __version__
from guidino_cli.evaluation.gates import GateResult
from guidino_cli.evaluation.probes.parts import Partition
from guidino_cli.evaluation.probes.rows import ProbeRow
from guidino_cli.evaluation.probes.samples import ProbeSamples
from guidino_cli.evaluation.probes.sanity import SanityScore
from guidino_cli.evaluation.probes.scores import MACRO, ProbeScore
from guidino_cli.evaluation.report.files import replace_nan
from guidino_cli.tables import to_csv

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class ProbeReport:
    """Everything that a report shows.

    Attributes:
        probe: "linear", "knn" or "abmil".
        data: The samples.
        partitions: The runs.
        rule: Where the parts come from, one sentence.
        rows: In the order of tables.
        headline: The row that gates and figures are about: of a backbone, no control.
        compared: Of each kind of features the row that stands beside the headline: with the same solver, or of
            neighbours with the k that is best on its own validation.
        differences: The headline minus each control of those, in macro AUC.
        sanity: Leakage that needs no picture.
        notes: What a reader must know.
        gates: Outcomes of the gates.
        group_count: Patients that intervals draw from.
        threshold: Rule of the decisions.
        pool: How several vectors became one; "" where attention weighs them.
    """

    probe: str
    data: ProbeSamples
    partitions: Sequence[Partition]
    rule: str
    rows: Sequence[ProbeRow]
    headline: ProbeRow
    compared: Sequence[ProbeRow]
    differences: Sequence[tuple[ProbeRow, ProbeScore]]
    sanity: Sequence[SanityScore]
    notes: Sequence[str]
    gates: Sequence[GateResult]
    group_count: int
    threshold: str
    pool: str


HEADINGS = ("features", "solver", "AUC", "95 %", "AP", "bal. acc.", "F1", "classes")


def table_rows(report: ProbeReport) -> list[list[str]]:
    """Cells of the summary: macro means, their interval over patients, and of how many classes."""
    return [
        [
            row.source.name,
            row.solver,
            format_score(row.scores[MACRO, "auc"].mean),
            format_interval(row.scores[MACRO, "auc"]),
            *(format_score(row.scores[MACRO, name].mean) for name in ("ap", "balanced_accuracy", "f1")),
            f"{row.scores[MACRO, 'auc'].defined}/{row.scores[MACRO, 'auc'].total}",
        ]
        for row in report.rows
    ]


def caption(report: ProbeReport) -> list[str]:
    """Sentences below the summary."""
    runs = len(report.partitions)
    tested = len({place for part in report.partitions for place in part.test.tolist()})
    trained = sorted({len(part.train) for part in report.partitions})
    shown = f"{trained[0]:,}" if len(trained) == 1 else f"{trained[0]:,} to {trained[-1]:,}"
    lines = [
        f"{report.rule}; {shown} training samples, {tested:,} tested, {runs} run{'s' if runs > 1 else ''}",
        f"95 %: bootstrap over {report.group_count:,} patients or samples; classes: those with an AUC, of all",
    ]
    if report.pool and report.data.are_bags:
        lines.append(f"one vector a sample: {report.pool} over its slices or tiles")
    if report.probe == "knn" and len({row.solver for row in report.rows}) > 1:
        chosen = ", ".join(f"{row.solver} of {row.source.name}" for row in report.compared)
        lines.append(f"best on validation: {chosen}; figures and differences are of these, gates of the first")
    own = report.headline
    for row, score in report.differences:
        same = f"{own.source.name} minus {row.source.name} ({row.solver})"
        what = same if row.solver == own.solver else f"{own.name} minus {row.name}"
        lines.append(f"{what}: AUC {score.mean:+.3f}, 95 % {score.low:+.3f} to {score.high:+.3f}")
    return lines


def endings(report: ProbeReport) -> list[str]:
    """How each row was solved."""
    return [f"{row.name}: {row.ending}" for row in report.rows if row.ending]


def sanity_lines(report: ProbeReport) -> list[str]:
    """Sentences on leakage."""
    if not report.sanity:
        return ["sizes and places of the files are alike for all, or unknown"]
    return [
        f"{item.what} alone, {item.target}: AUC {format_score(item.auc)}"
        + (" - SUSPICIOUS: the label may be told without looking at the picture" if item.is_suspicious else "")
        for item in report.sanity
    ]


def format_score(value: float) -> str:
    """Three digits, or "-" for what is undefined."""
    return f"{value:.3f}" if value == value else "-"


def format_interval(score: ProbeScore) -> str:
    """Ends of an interval: ".960-.981"."""
    if not (score.low == score.low and score.high == score.high):
        return "-"
    return f"{score.low:.3f}-{score.high:.3f}"


def summary_csv(report: ProbeReport) -> str:
    """A row for each row of the report, target and metric."""
    rows = (
        [row.source.name, row.solver, target, metric, *_numbers(score), str(score.defined), str(score.total)]
        for row in report.rows
        for (target, metric), score in row.scores.items()
    )
    headings = ["features", "solver", "target", "metric", "mean", "ci_low", "ci_high", "std_of_runs"]
    return to_csv([*headings, "classes_defined", "classes_total"], rows)


def predictions_csv(report: ProbeReport) -> str:
    """A row for each row of the report, run and tested sample, with the score of each class."""
    classes = report.data.classes
    headings = ["features", "solver", "run", "seed", "sample", "patient"]
    return to_csv(
        [
            *headings,
            *(f"true.{name}" for name in classes),
            *(f"called.{name}" for name in classes),
            *(f"score.{name}" for name in classes),
        ],
        _prediction_rows(report),
    )


def _prediction_rows(report: ProbeReport) -> Iterator[list[str]]:
    labels = report.data.labels
    for row in report.rows:
        for run in row.runs:
            part = run.partition
            for place, scores, called in zip(part.test.tolist(), run.fit.test, run.called, strict=True):
                sample = report.data.samples[place]
                yield [
                    row.source.name, row.solver, part.name, str(part.seed), sample.id, sample.group,
                    *("" if value < 0 else str(value) for value in labels[place].tolist()),
                    *(str(int(value)) for value in called.tolist()),
                    *(f"{value:.6g}" for value in scores.tolist()),
                ]  # fmt: skip


def to_json(report: ProbeReport, *, command: Sequence[str], created: str) -> dict[str, Any]:
    """Content of report.json; NaN becomes null."""
    content = replace_nan(
        {
            "schema": SCHEMA,
            "guidino": __version__,
            "versions": {name: version(name) for name in ("numpy", "scikit-learn", "torch")},
            "command": list(command),
            "created": created,
            "probe": report.probe,
            "features": [
                {"path": str(folder.path), **{key: folder.about[key] for key in ("source", "backbone", "settings")}}
                for folder in {row.source.folder.path: row.source.folder for row in report.rows}.values()
            ],
            "classes": list(report.data.classes),
            "multilabel": report.data.is_multilabel,
            "parts": report.rule,
            "pool": report.pool,
            "threshold": report.threshold,
            "runs": [
                {"name": part.name, "seed": part.seed, "train": len(part.train), "val": len(part.val),
                 "test": len(part.test)}
                for part in report.partitions
            ],
            "interval": f"95 % percentile bootstrap over {report.group_count} patients or samples",
            "headline": report.headline.name,
            "rows": [{**_row_json(row), "compared": row in report.compared} for row in report.rows],
            "differences": [
                {"of": report.headline.name, "minus": row.name, "metric": "auc", **asdict(score)}
                for row, score in report.differences
            ],
            "sanity": [asdict(item) for item in report.sanity],
            "notes": list(report.notes),
            "gates": [vars(gate) for gate in report.gates],
        }
    )  # fmt: skip
    return dict(content)


def _row_json(row: ProbeRow) -> dict[str, Any]:
    return {
        "features": row.source.name,
        "kind": row.source.kind,
        "solver": row.solver,
        "converged": row.converged,
        "ending": row.ending,
        "thresholds": list(row.thresholds),
        "scores": [
            {"target": target, "metric": metric, **asdict(score)} for (target, metric), score in row.scores.items()
        ],
        "runs": [
            {"name": run.partition.name, "seed": run.partition.seed, "converged": run.fit.is_converged,
             "remark": run.fit.remark, "choice": run.fit.choice, "auc": float(row.draws[MACRO, "auc"][number, 0])}
            for number, run in enumerate(row.runs)
        ],
    }  # fmt: skip


def _numbers(score: ProbeScore) -> list[str]:
    values = (score.mean, score.low, score.high, score.deviation)
    return ["" if value != value else f"{value:.10g}" for value in values]
