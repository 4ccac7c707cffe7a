"""The table of a benchmark: rows of all cells task by task, differences from the random network, figures of papers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from guidino_cli import __version__
from guidino_cli.commands.bench.cells import BenchCell, CellRecord, CellRow, RowRole, State, state_of
from guidino_cli.commands.bench.means import mean_and_interval
from guidino_cli.commands.bench.recipe import BenchTask, Recipe
from guidino_cli.commands.bench.task_options import PROBE_KINDS
from guidino_cli.metrics import METRICS
from guidino_cli.tables import to_csv

SCHEMA = 1
_ORDER: Sequence[RowRole | Literal["paper"]] = ("backbone", "random", "pixels", "mind", "initial", "paper")
_DISTANCES = ("hd95", "asd")
_LABELS = {
    "auc": "AUC", "ap": "average precision", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy",
    "precision": "precision", "recall": "recall", "f1": "F1", "jaccard": "Jaccard", "dice": "Dice", "hd95": "HD95",
    "asd": "ASD", "correlation": "correlation", "folding": "share folded", "jaccard_weighted": "weighted Jaccard",
}  # fmt: skip


@dataclass(frozen=True)
class BenchRow:
    """A line of the table.

    Attributes:
        role: A backbone, which control, or a figure of a paper.
        name: For tables.
        method: Solver or features; "" where there is one only.
        scores: By metric: value and both ends of its interval.
        minus_random: Difference in the task's metric from the random network, with its interval; None without one.
        tested: Cases or samples.
        lost: Cases that could not be computed and are in no mean.
        state: Of its cell; "done" for figures of a paper.
        error: Why the cell failed.
        note: How it was solved, or the source of a figure.
        sha256: Of the backbone's weights; "" where there is none.
        settings: Of its cell.
        report: Page of its cell relative to the benchmark's folder, "" if there is none.
    """

    role: RowRole | Literal["paper"]
    name: str
    method: str
    scores: Mapping[str, Sequence[float | None]]
    minus_random: Sequence[float | None] | None = None
    tested: int = 0
    lost: int = 0
    state: State = "done"
    error: str = ""
    note: str = ""
    sha256: str = ""
    settings: Mapping[str, Any] | None = None
    report: str = ""


@dataclass(frozen=True)
class TaskTable:
    """All rows of a task.

    Attributes:
        task: The task.
        rows: Backbones first, then controls, then figures of a paper.
        notes: What a reader must know, each once.
    """

    task: BenchTask
    rows: Sequence[BenchRow]
    notes: Sequence[str]


def metric_label(metric: str) -> str:
    """Name of a metric for people."""
    return _LABELS.get(metric) or (METRICS[metric].label if metric in METRICS else metric)


def is_higher_better(metric: str) -> bool:
    """Whether more of a metric is better."""
    if metric in METRICS:
        return METRICS[metric].higher_is_better
    return metric not in {*_DISTANCES, "folding"}


def build_tables(recipe: Recipe, cells: Sequence[BenchCell]) -> list[TaskTable]:
    """Tables of all tasks from the records of their cells; a cell that is not done has a row without scores."""
    records = [(cell, cell.read()) for cell in cells]
    return [_build(task, [pair for pair in records if pair[0].task is task]) for task in recipe.tasks]


def _build(task: BenchTask, records: Sequence[tuple[BenchCell, CellRecord | None]]) -> TaskTable:
    rows: list[BenchRow] = []
    random = {
        (cell.backbone.label, row.method): row
        for cell, record in records
        if cell.role == "random" and cell.backbone is not None and record is not None and record.state == "done"
        for row in record.rows
    }
    has_pixels = False
    for cell, record in records:
        if record is None or record.state != "done":
            error = "" if record is None else record.error
            rows.append(BenchRow(cell.role, cell.name, "", {}, state=state_of(record), error=error))
            continue
        for row in record.rows:
            if row.role == "pixels" and has_pixels:
                continue
            minus = row.minus_random
            if cell.role == "backbone" and cell.backbone is not None:
                minus = minus or _difference(row, random.get((cell.backbone.label, row.method)))
            rows.append(_from_cell(cell, record, row, minus))
        has_pixels |= any(row.role == "pixels" for row in record.rows)
    if task.paper is not None:
        for method, figures in task.paper.figures.items():
            scores = {metric: [value, None, None] for metric, value in figures.items()}
            rows.append(BenchRow("paper", method, "", scores, note=task.paper.source))
    rows.sort(key=lambda row: _ORDER.index(row.role))
    return TaskTable(task, rows, list(_describe_notes(task, records)))


def _describe_notes(task: BenchTask, records: Sequence[tuple[BenchCell, CellRecord | None]]) -> Iterator[str]:
    """Each note once, with the names of its cells; probes note by themselves that they have no controls."""
    names: dict[str, list[str]] = {}
    for cell, record in records:
        for note in () if record is None else record.notes:
            names.setdefault(note, []).append(cell.name)
    yield from (f"{', '.join(dict.fromkeys(own))}: {note}" for note, own in names.items())
    if not task.controls and task.kind not in PROBE_KINDS:
        yield "no random network stands beside the others: the recipe has controls: false"


def _from_cell(cell: BenchCell, record: CellRecord, row: CellRow, minus: Sequence[float | None] | None) -> BenchRow:
    report = f"{cell.folder.parent.parent.name}/{cell.folder.parent.name}/{cell.folder.name}/{record.report}"
    return BenchRow(
        row.role, cell.name_of(row.role), row.method, row.scores, minus, row.tested, record.lost, note=row.note,
        sha256=record.backbone_sha256 if row.role == cell.role else "", settings=record.settings,
        report=report if record.report else "",
    )  # fmt: skip


def _difference(first: CellRow, second: CellRow | None) -> list[float | None] | None:
    """Mean over the cases that both have, and its interval by drawing cases; it takes two of them."""
    common = [] if second is None else [case for case in first.cases if case in second.cases]
    if second is None or not common:
        return None
    return mean_and_interval([first.cases[case] - second.cases[case] for case in common])


def format_value(value: float | None, metric: str, *, signed: bool = False) -> str:
    """Three digits of a share, two of a distance; "-" for what is undefined."""
    if value is None:
        return "-"
    digits = 2 if metric in _DISTANCES else 3
    return f"{value:{'+' if signed else ''}.{digits}f}"


def format_ends(ends: Sequence[float | None], metric: str, *, signed: bool = False) -> str:
    """Both ends of an interval: "0.960 to 0.981"."""
    if None in ends[1:]:
        return "-"
    return " to ".join(format_value(end, metric, signed=signed) for end in ends[1:])


def to_bench_csv(tables: Sequence[TaskTable]) -> str:
    """A row for each line of the table and metric; a cell that is not done has one row without a value."""
    headings = [
        "task", "kind", "data", "features", "role", "method", "metric", "value", "ci_low", "ci_high", "minus_random",
        "minus_low", "minus_high", "tested", "lost", "state", "backbone_sha256", "note",
    ]  # fmt: skip
    return to_csv(headings, (line for table in tables for row in table.rows for line in _csv_rows(table.task, row)))


def _csv_rows(task: BenchTask, row: BenchRow) -> Iterator[list[str]]:
    for metric, ends in row.scores.items() or [(task.metric, [None] * 3)]:
        minus = (row.minus_random or [None] * 3) if metric == task.metric else [None] * 3
        numbers = ["" if value is None else f"{value:.10g}" for value in (*ends, *minus)]
        counts = ["" if row.role == "paper" else str(number) for number in (row.tested, row.lost)]
        yield [
            task.name, task.kind, str(task.data), row.name, row.role, row.method, metric, *numbers, *counts, row.state,
            row.sha256, row.error or row.note,
        ]  # fmt: skip


def to_bench_json(
    recipe: Recipe, tables: Sequence[TaskTable], *, command: Sequence[str], created: str
) -> dict[str, Any]:
    """Content of bench.json."""
    return {
        "schema": SCHEMA,
        "guidino": __version__,
        "command": list(command),
        "created": created,
        "recipe": str(recipe.path),
        "description": recipe.description,
        "backbones": {label: asdict(backbone) for label, backbone in recipe.backbones.items()},
        "interval": "95 % percentile bootstrap over patients, cases or pairs",
        "tasks": [
            {
                "name": table.task.name,
                "kind": table.task.kind,
                "title": table.task.title,
                "data": str(table.task.data),
                "metric": table.task.metric,
                "higher_is_better": is_higher_better(table.task.metric),
                "rows": [asdict(row) for row in table.rows],
                "notes": list(table.notes),
            }
            for table in tables
        ],
    }
