"""Cells of a benchmark: one for each task and backbone or control, with a record that says whether it is done."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from guidino_cli.commands.bench.recipe import BenchBackbone, BenchTask, Recipe
from guidino_cli.commands.bench.task_checks import decoder_config
from guidino_cli.commands.bench.task_options import PROBE_KINDS
from guidino_cli.config import dump_config, preset_names
from guidino_cli.data.manifest import MANIFEST_NAME
from guidino_cli.files import file_sha256, write_text
from guidino_cli.json_files import read_record

CELLS_FOLDER, PAIRS_FOLDER, RECORD_FILE = "cells", "pairs", "cell.json"
_STAMPS = {"stamp": "data that have", "preset_stamp": "a preset that has"}
_AGAIN = "remove the file, and the cell is computed again"

Role = Literal["backbone", "random", "mind"]
RowRole = Literal["backbone", "random", "pixels", "mind", "initial"]
State = Literal["done", "failed", "unfinished", "missing"]


@dataclass(frozen=True)
class CellRow:
    """A line of the table that a cell has measured.

    Attributes:
        role: A backbone, or which control.
        method: Solver or features; "" where there is one only.
        scores: By metric: value, and both ends of its 95 % interval; null where it is undefined.
        minus_random: Difference in the task's metric from the random network, with its interval, where the cell itself
            has measured both.
        cases: The task's metric by case, where the cell has one; differences between cells are taken case by case.
        tested: Cases or samples that were tested.
        note: How it was solved.
    """

    role: RowRole
    method: str
    scores: dict[str, list[float | None]]
    minus_random: list[float | None] | None = None
    cases: dict[str, float] = field(default_factory=dict)
    tested: int = 0
    note: str = ""


@dataclass(frozen=True)
class CellRecord:
    """Content of `cell.json`.

    Attributes:
        state: "running" while it is computed: a killed process leaves it so.
        settings: What determines its result.
        rows: Of the table; none unless it is done.
        error: Why it failed.
        notes: What a reader must know, such as cases that could not be read.
        lost: Cases that could not be computed and are in no mean.
        backbone_sha256: Of the weights.
        seconds: That it took, without what earlier calls had computed.
        report: Page of the cell, relative to its folder; "" if there is none.
    """

    state: Literal["done", "failed", "running"]
    settings: dict[str, Any]
    rows: list[CellRow] = field(default_factory=list)
    error: str = ""
    notes: list[str] = field(default_factory=list)
    lost: int = 0
    backbone_sha256: str = ""
    seconds: float = 0.0
    report: str = ""


@dataclass(frozen=True)
class BenchCell:
    """A task with a backbone or a control.

    Attributes:
        task: The task.
        role: Of what is tried.
        backbone: The backbone, or the one whose shape the random network has; None for MIND.
        folder: Of all its files.
    """

    task: BenchTask
    role: Role
    backbone: BenchBackbone | None
    folder: Path

    @property
    def name(self) -> str:
        """What tables call its row."""
        if self.role == "mind" or self.backbone is None:
            return "MIND"
        return self.backbone.label if self.role == "backbone" else self.random_name

    @property
    def random_name(self) -> str:
        """What tables call the random network of the backbone's shape."""
        assert self.backbone is not None
        return f"random (as {self.backbone.label})" if len(self.task.backbones) > 1 else "random network"

    def name_of(self, role: RowRole) -> str:
        """What tables call a row that the cell has measured."""
        names = {"pixels": "raw pixels", "mind": "MIND", "initial": "not registered"}
        return names.get(role) or (self.name if role == self.role else self.random_name)

    @property
    def settings(self) -> dict[str, Any]:
        """What determines its result, as plain values."""
        task = self.task
        data = str(task.data.resolve())
        chosen: dict[str, Any] = {"kind": task.kind, "data": data, "role": self.role, "metric": task.metric}
        if self.backbone is not None:
            chosen |= {key: value for key, value in asdict(self.backbone).items() if key != "label"}
        chosen |= {"controls": task.controls, "preset": task.preset}
        chosen |= {f"set.{key}": value for key, value in task.overrides.items()}
        stamps = {"stamp": _stamp(task.data), "preset_stamp": _stamp_preset(task)}
        settings = json.loads(json.dumps(chosen | dict(task.options) | stamps))
        return dict(settings)

    def read(self) -> CellRecord | None:
        """Its record; None if it was never begun.

        Raises:
            DataError: The file is damaged.
        """
        path = self.folder / RECORD_FILE
        return read_record(path, CellRecord, hint=_AGAIN) if path.is_file() else None

    def write(self, record: CellRecord) -> None:
        """Write its record, whole or not at all."""
        write_text(self.folder / RECORD_FILE, json.dumps(asdict(record), indent=1) + "\n")


def as_finite(value: Any) -> float | None:
    """A number of a report; None for what is undefined or infinite, which reports hold as null and as text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and isfinite(value) else None


def list_cells(recipe: Recipe, out: Path) -> list[BenchCell]:
    """All cells, task by task: MIND, then each backbone and its random twin.

    Probes measure the random network and the pixels in the cell of the backbone, so they have no further ones.
    """
    return [
        BenchCell(task, role, backbone, out / CELLS_FOLDER / task.name / folder)
        for task in recipe.tasks
        for role, backbone, folder in _subjects(task, recipe)
    ]


def _subjects(task: BenchTask, recipe: Recipe) -> Iterator[tuple[Role, BenchBackbone | None, str]]:
    if task.kind == "registration":
        yield "mind", None, "mind"
    for label in task.backbones:
        yield "backbone", recipe.backbones[label], f"backbone-{label}"
        if task.controls and task.kind not in PROBE_KINDS:
            yield "random", recipe.backbones[label], f"random-{label}"


def _stamp(data: Path) -> str:
    """Digest by which data that have changed are noticed: of a file, or of what lists a prepared folder; else ""."""
    path = data / MANIFEST_NAME if data.is_dir() else data
    return file_sha256(path)[:16] if path.is_file() else ""


def _stamp_preset(task: BenchTask) -> str:
    """Digest of the settings of a preset that is a file, which may change under its name; else ""."""
    if not task.preset or task.preset in preset_names():
        return ""
    return hashlib.sha256(dump_config(decoder_config(task)).encode()).hexdigest()[:16]


def describe_differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Which settings of a cell differ: "px 112 and not 224"; data that were absent or are gone differ in nothing."""
    lines = []
    for key in [*now, *(key for key in before if key not in now)]:
        if key in _STAMPS:
            stamps = [found.get(key, "") for found in (before, now)]
            if all(stamps) and stamps[0] != stamps[1]:
                lines.append(f"{_STAMPS[key]} changed since")
        elif before.get(key) != now.get(key):
            lines.append(f"{key} {_show(before.get(key))} and not {_show(now.get(key))}")
    return lines


def _show(value: Any) -> str:
    return "none" if value is None else str(value)


def order_cells(cells: Sequence[BenchCell]) -> list[BenchCell]:
    """Cells that a killed process left come last: what killed it may do so again, before the others had their turn."""

    def was_killed(cell: BenchCell) -> bool:
        record = cell.read()
        return record is not None and record.state == "running"

    return sorted(cells, key=was_killed)


def state_of(record: CellRecord | None) -> State:
    """State of a cell for lists."""
    if record is None:
        return "missing"
    return "unfinished" if record.state == "running" else record.state
