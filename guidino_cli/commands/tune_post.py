"""`guidino tune-post`: choose post-processing on the validation cases of a run."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from guidino_cli.commands.runs.instances import choose_threshold, describe_curve
from guidino_cli.commands.validation_cases import find_validation_cases, load_runs, segment_validation_case
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.prediction.ensemble import (
    LoadedEnsemble,
    ensemble_arguments,
)
from guidino_cli.engine.prediction.instance_threshold import FILE_NAME
from guidino_cli.engine.prediction.postprocessing import CANDIDATES, RuleSelector, SelectedRule, save_rules
from guidino_cli.engine.prediction.volume_ensemble import LoadedVolumeEnsemble
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.settings import resolve_run_config
from guidino_cli.errors import ConfigError, DataError, explain_out_of_memory
from guidino_cli.options.prediction import TunePostOptions
from guidino_cli.processes import keep_all_freed_memory
from guidino_cli.progress import log_info, pluralize, track
from guidino_cli.types import Case

_MIN_CASES = 10
"""With fewer cases the test has no power."""


def run(run_path: Path, options: TunePostOptions) -> None:
    """Write RUN/post.json and print the chosen rules, for a run or for an ensemble whose first run it is.

    Raises:
        DataError: No labelled validation cases, or cases with other classes.
    """
    if RunFolder(run_path).config().model.target == "affinities":
        _choose_threshold(run_path, options)
        return
    validation = find_validation_cases(run_path, options.data)
    cases = validation.cases
    keep_all_freed_memory()
    loaded = load_runs(run_path, options, validation)
    with explain_out_of_memory("lower predict.batch_size and predict.memory_gb with --set"):
        selected = _select_rules(loaded, cases)
    if len(cases) < _MIN_CASES:
        log_info(f"only {pluralize(len(cases), 'validation case')}: too few to distinguish an improvement from chance")
    evidence = {"runs": [item["run"] for item in loaded.runs], "validation": str(validation.root), "cases": len(cases)}
    path = save_rules(run_path, selected, provenance=loaded.provenance, evidence=evidence)
    for name, choice in selected.items():
        print(_format_rule(name, choice))
    extra = "".join(f" {word}" for word in map(shlex.quote, ensemble_arguments(options.ensemble, options.overrides)))
    print(f"written to {path}; used by: guidino predict {run_path} IMAGES -o MASKS --post auto{extra}")


def _choose_threshold(run_path: Path, options: TunePostOptions) -> None:
    """Choose the threshold of a run that makes instances: its only post-processing."""
    if options.ensemble:
        raise ConfigError(f"{run_path}: makes instances, and runs that do cannot be averaged; leave out --ensemble")
    folder, overrides = RunFolder(run_path), tuple(options.overrides or ())
    if options.data is None and folder.config().data.root is None:
        raise DataError(f"{run_path}: names no data folder; give it with --data")
    curve = choose_threshold(
        folder, device=pick_device(options.device), offline=options.offline, data=options.data, overrides=overrides
    )
    config = resolve_run_config(run_path, overrides)
    print(describe_curve(curve, config))
    extra = "".join(f" {word}" for word in map(shlex.quote, ensemble_arguments(None, options.overrides)))
    print(f"written to {run_path / FILE_NAME}; used by: guidino predict {run_path} IMAGES -o MASKS{extra}")


def _select_rules(loaded: LoadedEnsemble | LoadedVolumeEnsemble, cases: Sequence[Case]) -> dict[str, SelectedRule]:
    selectors = {name: RuleSelector() for name in loaded.classes[1:]}
    for case in track(cases, total=len(cases), description="tune-post"):
        if case.mask is None:
            continue
        labels, truth = segment_validation_case(loaded, case)
        for index, selector in enumerate(selectors.values(), start=1):
            selector.add(labels == index, truth == index)
    return {name: selector.select() for name, selector in selectors.items()}


def _format_rule(name: str, choice: SelectedRule) -> str:
    tried = f"of {len(CANDIDATES)} tried, p {choice.p:.2g}, {pluralize(choice.cases, 'case')}"
    gain = f"Dice {choice.before:.4f} -> {choice.best_after:.4f}"
    if str(choice.rule) != "none":
        return f"{name}: {choice.rule} ({gain}, best {tried})"
    return f"{name}: none (best {tried}: {choice.best}, {gain}, not beyond chance)"
