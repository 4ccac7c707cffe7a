"""A cell of registration: pairs of a table by MIND, or by the features of a frozen network."""

from dataclasses import replace
from typing import Any

from guidino_cli.commands import register as register_command
from guidino_cli.commands.bench.backbones import find_network
from guidino_cli.commands.bench.cells import PAIRS_FOLDER, BenchCell, CellRecord, CellRow
from guidino_cli.commands.bench.means import mean_and_interval
from guidino_cli.commands.bench.table import metric_label
from guidino_cli.commands.bench.task_checks import registration_options
from guidino_cli.errors import PartialError
from guidino_cli.json_files import read_json_object
from guidino_cli.options.bench import BenchOptions
from guidino_cli.progress import join_first, pluralize


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
    undefined = _find_undefined(cell, content)
    if undefined:
        notes.append(_describe_undefined(cell, content, undefined))
    rows = [_row(cell, content, method)]
    if cell.role == "mind":
        rows.insert(0, _row(cell, content, "", before=True))
    return CellRecord(
        "done", cell.settings, rows, notes=notes, lost=len(content["failed"]) + len(undefined),
        backbone_sha256=str(content["settings"].get("backbone_sha256", digest)),
        report=f"{PAIRS_FOLDER}/report.html" if wanted.figures else "",
    )  # fmt: skip


def _find_undefined(cell: BenchCell, content: dict[str, Any]) -> list[str]:
    """Names of registered pairs without a value of the task's metric."""
    key = _key(cell, "after")
    return [item["name"] for item in content["results"] if item["scores"][key] is None]


def _describe_undefined(cell: BenchCell, content: dict[str, Any], names: list[str]) -> str:
    label = metric_label(cell.task.metric)
    are_labelled = all(item["labels"] for item in content["results"] if item["name"] in names)
    reason = (
        "" if cell.task.metric == "correlation" or are_labelled else ": no labels; without, set metric: correlation"
    )
    return f"no {label} of {pluralize(len(names), 'pair')} ({join_first(names, limit=3)}){reason}"


def _key(cell: BenchCell, when: str) -> str:
    return "folding" if cell.task.metric == "folding" else f"{cell.task.metric}_{when}"


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
    key = _key(cell, when)
    cases = {item["name"]: item["scores"][key] for item in results if item["scores"].get(key) is not None}
    if before and cell.task.metric == "folding":
        cases = {}
    return CellRow(
        "initial" if before else cell.role, method, scores, cases=cases,
        tested=sum(1 for item in results if item["scores"][key] is not None),
    )  # fmt: skip
