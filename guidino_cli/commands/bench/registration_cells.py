"""A cell of registration: pairs of a table by MIND, or by the features of a frozen network."""

from dataclasses import replace
from typing import Any

from guidino_cli.commands import register as register_command
from guidino_cli.commands.bench.backbones import find_network
from guidino_cli.commands.bench.cells import PAIRS_FOLDER, BenchCell, CellRecord, CellRow
from guidino_cli.commands.bench.means import mean_and_interval
from guidino_cli.commands.bench.task_checks import registration_options
from guidino_cli.errors import PartialError
from guidino_cli.json_files import read_json_object
from guidino_cli.options.bench import BenchOptions


def run_registration(cell: BenchCell, options: BenchOptions) -> CellRecord:
    """Register the pairs that are missing."""
    place = cell.folder / PAIRS_FOLDER
    wanted = replace(
        registration_options(cell.task, place), device=options.device, offline=options.offline, skip_existing=True
    )  # fmt: skip
    digest = ""
    if cell.role == "mind":
        wanted = replace(wanted, features="mind", layer=None, px=None)
    else:
        network = find_network(cell, options.out, offline=options.offline)
        digest = network.sha256
        layer = wanted.layer
        if layer is None and cell.role == "random" and network.layers:
            layer = network.layers[-1]
        wanted = replace(wanted, backbone=network.name, weights=network.weights, layer=layer)
    notes = []
    try:
        register_command.run(cell.task.data, None, wanted)
    except PartialError as error:
        notes.append(str(error))
    content = read_json_object(place / "report.json", hint="remove it, and the cell is computed again")
    method = "" if cell.role == "mind" else {"dino": "features", "both": "features and MIND"}[wanted.features]
    rows = [_row(cell, content, method)]
    if cell.role == "mind":
        rows.insert(0, _row(cell, content, "", before=True))
    return CellRecord(
        "done", cell.settings, rows, notes=notes, lost=len(content["failed"]),
        backbone_sha256=str(content["settings"].get("backbone_sha256", digest)),
        report=f"{PAIRS_FOLDER}/report.html" if wanted.figures else "",
    )  # fmt: skip


def _row(cell: BenchCell, content: dict[str, Any], method: str, *, before: bool = False) -> CellRow:
    when = "before" if before else "after"
    results = content["results"]
    scores: dict[str, list[float | None]] = {}
    for metric in ("dice", "hd95", "asd", "correlation"):
        values = [item["scores"][f"{metric}_{when}"] for item in results]
        known = [value for value in values if value is not None]
        if known:
            scores[metric] = mean_and_interval(known)
    if not before:
        scores["folding"] = mean_and_interval([item["scores"]["folding"] for item in results])
    key = f"{cell.task.metric}_{when}" if cell.task.metric != "folding" else "folding"
    cases = {item["name"]: item["scores"][key] for item in results if item["scores"].get(key) is not None}
    if before and cell.task.metric == "folding":
        cases = {}
    return CellRow(
        "initial" if before else cell.role, method, scores, cases=cases,
        tested=len(results),
    )  # fmt: skip
