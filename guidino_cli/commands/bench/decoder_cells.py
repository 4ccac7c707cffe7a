"""A cell of a light decoder: a small head is trained on a frozen network, and its masks are scored."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from guidino_cli.commands import evaluate as evaluate_command
from guidino_cli.commands import predict as predict_command
from guidino_cli.commands import train as train_command
from guidino_cli.commands.bench.backbones import choose_layers, find_network
from guidino_cli.commands.bench.cells import BenchCell, CellRecord, CellRow, as_finite
from guidino_cli.commands.bench.recipe import BenchTask
from guidino_cli.commands.bench.task_checks import decoder_config, decoder_options, decoder_overrides
from guidino_cli.commands.runs.result import read_result
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import PartialError
from guidino_cli.json_files import read_json_object
from guidino_cli.options.bench import BenchOptions
from guidino_cli.options.evaluation import EvaluateOptions
from guidino_cli.options.prediction import PredictOptions
from guidino_cli.options.training import TrainCommandOptions

_AGAIN = "remove it, and the cell is computed again"


def run_decoder(cell: BenchCell, options: BenchOptions) -> CellRecord:
    """Train what is missing, predict, and evaluate."""
    task = cell.task
    scoring = decoder_options(task)
    config = decoder_config(task)
    assert config.model.backbone is not None
    assert cell.backbone is not None
    network = find_network(cell, options.out, offline=options.offline)
    layers = choose_layers(network, cell.backbone.layers, config.model.backbone.options.get("layers"))
    part = {"name": network.name, "options": {**network.options, **({"layers": layers} if layers else {})}}
    run, masks, report = (cell.folder / name for name in ("run", "masks", "report"))
    _train(task, run, part, options)
    notes = _notes(scoring)
    try:
        predict_command.run(
            run, [task.data], masks,
            PredictOptions(split=scoring.split, skip_existing=True, device=options.device, offline=options.offline),
        )  # fmt: skip
    except PartialError as error:
        notes.append(f"predict: {error}")
    try:
        evaluate_command.run(masks, task.data, replace(scoring, out=report, overwrite=True))
    except PartialError as error:
        notes.append(str(error))
    content = read_json_object(report / "report.json", hint=_AGAIN)
    facts = RunFolder(run).facts()
    return CellRecord(
        "done", cell.settings, [_row(cell, content)], notes=notes,
        backbone_sha256=str(facts["backbone"]["sha256"]), report="report/report.html",
    )  # fmt: skip


def _notes(scoring: EvaluateOptions) -> list[str]:
    """What a reader of the scores must know, whatever they are."""
    notes = []
    if scoring.split == "val":
        notes.append("val chose the best epoch and is what is scored: optimistic")
    if scoring.group:
        notes.append("intervals of the scores are over groups, those of the differences over cases: too narrow")
    return notes


def _train(task: BenchTask, run: Path, part: dict[str, Any], options: BenchOptions) -> None:
    folder = RunFolder(run)
    if read_result(run) is not None:
        return
    resume = folder.has_state()
    train_command.run(
        TrainCommandOptions(
            preset=None if resume else task.preset,
            data=task.data,
            out=run,
            overrides=[] if resume else [*decoder_overrides(task), f"model.backbone={json.dumps(part)}"],
            resume=resume,
            overwrite=not resume,
            device=options.device,
            offline=options.offline,
        )
    )


def _row(cell: BenchCell, content: dict[str, Any]) -> CellRow:
    headline = content["headline"]
    scores = {
        item["metric"]: [as_finite(item[name]) for name in ("mean", "ci_low", "ci_high")]
        for item in content["summary"]
        if item["target"] == headline
    }
    return CellRow(
        cell.role, "", scores, cases=_cases(content, cell.task.metric), tested=content["counts"]["cases"],
    )  # fmt: skip


def _cases(content: dict[str, Any], metric: str) -> dict[str, float]:
    """A metric of each case, the mean over its classes; none at all if one is infinite, for it would be left out."""
    absent = set(content["absent_targets"])
    found = {}
    for case in content["cases"]:
        values = [score.get(metric) for score in case["scores"] if score["target"] not in absent]
        given = [value for value in values if value is not None]
        known = [number for number in map(as_finite, given) if number is not None]
        if len(known) < len(given):
            return {}
        if known:
            found[str(case["case"])] = sum(known) / len(known)
    return found
