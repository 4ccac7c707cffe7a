"""A cell of a probe: features of the backbone, its random twin and the pixels, then the classifier on all three."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from guidino_cli.commands import features as features_command
from guidino_cli.commands import probe as probe_command
from guidino_cli.commands.bench.cells import BenchCell, CellRecord, CellRow, RowRole
from guidino_cli.commands.bench.task_checks import feature_options, probe_options
from guidino_cli.errors import PartialError
from guidino_cli.options.bench import BenchOptions
from guidino_cli.options.probing import FeatureOptions

if TYPE_CHECKING:
    from guidino_cli.evaluation.probes.report import ProbeReport
    from guidino_cli.evaluation.probes.scores import ProbeScore

FEATURES_FOLDER = "features"
_COMMANDS: Mapping[str, Callable[..., "ProbeReport"]] = {
    "linear": probe_command.run_linear,
    "knn": probe_command.run_neighbours,
    "abmil": probe_command.run_abmil,
}
_ROLES: Mapping[str, RowRole] = {"backbone": "backbone", "random": "random", "pixels": "pixels"}


def run_probe(cell: BenchCell, options: BenchOptions) -> CellRecord:
    """Write the features that are missing, and probe them."""
    task = cell.task
    wanted = replace(features_of(cell, options.out), device=options.device, offline=options.offline)
    folder = wanted.out
    notes, lost = [], 0
    try:
        features_command.run(task.data, wanted)
    except PartialError as error:
        notes.append(str(error))
        lost = _count_lost(folder)
    place = cell.folder / "report"
    report = _COMMANDS[task.kind]([folder], replace(probe_options(task, place), overwrite=True))
    return CellRecord(
        "done", cell.settings, _rows(report, cell), notes=[*notes, *report.notes], lost=lost,
        backbone_sha256=str(report.headline.source.folder.about["backbone"]["sha256"]), report="report/report.html",
    )  # fmt: skip


def features_of(cell: BenchCell, out: Path) -> FeatureOptions:
    """Options of `features` for a cell, with the folder of its features in the benchmark's folder."""
    backbone = cell.backbone
    assert backbone is not None
    wanted = replace(feature_options(cell.task, Path()), backbone=backbone.name, weights=backbone.weights)
    return replace(wanted, out=out / FEATURES_FOLDER / f"{backbone.label}-{_digest(cell, wanted)}")


def _digest(cell: BenchCell, options: FeatureOptions) -> str:
    """Name of the features, which tasks that ask for the same ones share."""
    chosen = {key: value for key, value in vars(options).items() if key not in {"out", "batch", "device", "offline"}}
    chosen |= {"data": str(cell.task.data.resolve()), "stamp": cell.settings["stamp"]}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]


def _count_lost(folder: Path) -> int:
    from guidino_cli.data.feature_folder import read_feature_folder

    return sum(1 for entry in read_feature_folder(folder).items if entry.error)


def _rows(report: "ProbeReport", cell: BenchCell) -> list[CellRow]:
    """A row for each kind of features and solver; of neighbours one, with the k that its own validation chose."""
    from guidino_cli.evaluation.probes.scores import MACRO, score_difference

    is_chosen = cell.task.kind == "knn"
    shown = report.compared if is_chosen else report.rows
    tested = len({place for part in report.partitions for place in part.test.tolist()})
    rows = []
    for row in shown:
        role = _ROLES[row.source.kind]
        scores = {metric: _ends(score) for (target, metric), score in row.scores.items() if target == MACRO}
        minus = None
        twins = [
            other for other in shown if other.source.kind == "random" and (is_chosen or other.solver == row.solver)
        ]
        if role == "backbone" and twins:
            minus = _ends(score_difference(row.draws, twins[0].draws, cell.task.metric))
        rows.append(CellRow(role, row.solver, scores, minus, tested=tested, note=row.ending))
    return rows


def _ends(score: "ProbeScore") -> list[float | None]:
    """Mean and interval; null where undefined."""
    return [None if value != value else float(value) for value in (score.mean, score.low, score.high)]
