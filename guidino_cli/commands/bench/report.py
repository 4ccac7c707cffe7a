"""What `guidino bench` prints and writes: the table, bench.csv, bench.json and bench.html."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from guidino_cli import __version__
from guidino_cli.commands.bench.cells import BenchCell, state_of
from guidino_cli.commands.bench.recipe import Recipe
from guidino_cli.commands.bench.table import (
    BenchRow,
    TaskTable,
    format_ends,
    format_value,
    is_higher_better,
    metric_label,
    to_bench_csv,
    to_bench_json,
)
from guidino_cli.commands.text_tables import print_table, print_wrapped
from guidino_cli.files import write_text
from guidino_cli.html import render
from guidino_cli.progress import pluralize

CSV_FILE, JSON_FILE, PAGE_FILE = "bench.csv", "bench.json", "bench.html"
_HEADINGS = ("features", "method", "score", "95 %", "minus random", "95 %")


def write_bench(
    out: Path, recipe: Recipe, tables: Sequence[TaskTable], *, command: Sequence[str], created: str
) -> None:
    """Write the table in all its forms."""
    content = to_bench_json(recipe, tables, command=command, created=created)
    write_text(out / CSV_FILE, to_bench_csv(tables))
    write_text(out / PAGE_FILE, _page(recipe, tables, created=created))
    write_text(out / JSON_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")


def print_bench(tables: Sequence[TaskTable], out: Path) -> None:
    """Print the table; it fits 80 columns."""
    for table in tables:
        print()
        print_wrapped(_title(table))
        print_table(_HEADINGS, [("", [_cells(row, table.task.metric) for row in _shown(table)])], collapse_padding=True)
    for line in _footnotes(tables):
        print_wrapped(line)
    print_wrapped(f"wrote {out}: {PAGE_FILE}, {CSV_FILE}, {JSON_FILE}")


def print_plan(cells: Sequence[BenchCell]) -> None:
    """Print the cells, and what exists of them and of their data."""
    rows = []
    for cell in cells:
        record = cell.read()
        data = "found" if cell.task.data.exists() else "absent"
        rows.append([cell.task.name, cell.task.kind, cell.name, data, state_of(record)])
    print_table(("task", "kind", "cell", "data", "state"), [("", rows)], collapse_padding=True)
    for cell in cells:
        record = cell.read()
        if record is not None and record.error:
            print_wrapped(f"{cell.task.name}, {cell.name}: {record.error}")
    for path in dict.fromkeys(cell.task.data for cell in cells if not cell.task.data.exists()):
        print_wrapped(f"absent: {path}")
    left = sum(row[-1] != "done" for row in rows)
    print_wrapped(f"{pluralize(len(rows), 'cell')}, {left} to compute")


def _title(table: TaskTable) -> str:
    task = table.task
    direction = "" if is_higher_better(task.metric) else ", lower is better"
    tested = max((row.tested for row in table.rows), default=0)
    noun = "pair" if task.kind == "registration" else "case" if task.kind == "decoder" else "sample"
    is_done = all(row.state == "done" for row in table.rows)
    what = f"{pluralize(tested, noun)} tested" if tested else "nothing tested" if is_done else "nothing tested yet"
    return f"{task.title}: {task.kind}, {metric_label(task.metric)}{direction}; {what}"


def _shown(table: TaskTable) -> list[BenchRow]:
    """Rows of the printed table: figures of a paper only where they have the task's metric."""
    return [row for row in table.rows if row.role != "paper" or table.task.metric in row.scores]


def _cells(row: BenchRow, metric: str) -> list[str]:
    name = f"{row.name} (theirs)" if row.role == "paper" else row.name
    if row.state != "done":
        return [name, row.method, row.state, "", "", ""]
    ends = row.scores.get(metric, (None, None, None))
    minus = row.minus_random
    return [
        name,
        row.method,
        format_value(ends[0], metric) + ("*" if row.lost else ""),
        format_ends(ends, metric),
        "" if minus is None else format_value(minus[0], metric, signed=True),
        "" if minus is None else format_ends(minus, metric, signed=True),
    ]


def _footnotes(tables: Sequence[TaskTable]) -> list[str]:
    rows = [(table, row) for table in tables for row in table.rows]
    lines = [f"{table.task.name}, {row.name}: {row.state}: {row.error}" for table, row in rows if row.error]
    lines += [
        f"* {table.task.name}, {row.name}: {row.lost} lost, in no mean"
        for table, row in rows
        if row.lost and row.scores
    ]
    lines += [
        f"{table.task.name}, {row.name}, {row.method}: {row.note}"
        for table, row in rows
        if row.note.startswith("not converged")
    ]
    lines += [f"{table.task.name}, {note}" for table in tables for note in table.notes]
    sources = {row.note: None for _, row in rows if row.role == "paper"}
    lines += [f"theirs: {source}; not computed here, and not on your data" for source in sources]
    return list(dict.fromkeys(lines))


def _page(recipe: Recipe, tables: Sequence[TaskTable], *, created: str) -> str:
    return render(
        "bench.html.j2",
        version=__version__,
        heading=recipe.description or f"Benchmark {recipe.path.stem}",
        origin=[
            f"recipe: {recipe.path}",
            f"made: {created[:16].replace('T', ' ')}",
            "intervals: 95 %, bootstrap over patients, cases or pairs, also of the differences",
        ],
        absent=list(_describe_absent(tables)),
        headings=[*_HEADINGS, "tested", "how"],
        tasks=[_task(table) for table in tables],
    )


def _describe_absent(tables: Sequence[TaskTable]) -> Iterator[str]:
    """A line for each cell that failed, and one for each task with all of its others that are not done."""
    for table in tables:
        yield from (
            f"{table.task.name}, {row.name}: failed: {row.error}" for row in table.rows if row.state == "failed"
        )
        waiting = [
            row.name if row.state == "missing" else f"{row.name} ({row.state})"
            for row in table.rows
            if row.state not in {"done", "failed"}
        ]
        if waiting:
            yield f"{table.task.name}: {', '.join(waiting)}: not computed yet"


def _task(table: TaskTable) -> dict[str, Any]:
    metric = table.task.metric
    shown = _shown(table)
    others = [name for name in dict.fromkeys(name for row in table.rows for name in row.scores) if name != metric]
    return {
        "title": _title(table),
        "rows": [
            {
                "role": row.role,
                "report": row.report,
                "cells": [*_cells(row, metric), f"{row.tested:,}" if row.tested else "", row.error or row.note],
            }
            for row in shown
        ],
        "chart": _chart(shown, metric),
        "other_headings": ["features", "method", *map(metric_label, others)],
        "other_rows": [
            [f"{row.name} (theirs)" if row.role == "paper" else row.name, row.method]
            + [format_value(row.scores.get(name, [None])[0], name) for name in others]
            for row in table.rows
            if row.scores
        ],
        "notes": list(dict.fromkeys([*table.notes, *(f"theirs: {r.note}" for r in table.rows if r.role == "paper")])),
    }


_LEFT, _RIGHT, _STEP, _TOP = 250, 700, 22, 26


def _chart(rows: Sequence[BenchRow], metric: str) -> dict[str, Any] | None:
    """Places of values and intervals on one axis; None if no row has a value."""
    known = [(row, [value for value in row.scores.get(metric, ()) if value is not None]) for row in rows]
    values = [value for _, ends in known for value in ends]
    if not values:
        return None
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.01
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return round(_LEFT + (value - low) / (high - low) * (_RIGHT - _LEFT), 1)

    marks = []
    for number, (row, ends) in enumerate((row, ends) for row, ends in known if ends):
        own = row.scores[metric]
        label = ", ".join(filter(None, [f"{row.name} (theirs)" if row.role == "paper" else row.name, row.method]))
        marks.append(
            {
                "label": label,
                "role": row.role,
                "y": _TOP + number * _STEP,
                "x": place(ends[0]),
                "low": None if own[1] is None else place(own[1]),
                "high": None if own[2] is None else place(own[2]),
                "value": format_value(ends[0], metric),
            }
        )
    return {
        "marks": marks, "left": _LEFT, "right": _RIGHT, "width": _RIGHT + 60, "height": _TOP + len(marks) * _STEP + 12,
        "base": _TOP + len(marks) * _STEP - 8, "low": format_value(low, metric), "high": format_value(high, metric),
    }  # fmt: skip
