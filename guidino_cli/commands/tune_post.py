"""Choose post-processing on the validation cases of a run, and say by how much it helps."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from guidino_cli.data.images import read_label_map
from guidino_cli.data.manifest import load_manifest
from guidino_cli.data.readers import open_regions, read
from guidino_cli.data.regions import read_size
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.prediction.ensemble import LoadedEnsemble, load_ensemble
from guidino_cli.engine.prediction.postprocessing import CANDIDATES, RuleSelector, SelectedRule, save_rules
from guidino_cli.engine.prediction.predictor import DecodedImage
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import DataError
from guidino_cli.processes import keep_all_freed_memory
from guidino_cli.progress import log_info, pluralize, track
from guidino_cli.types import Case, width_by_height

_ENOUGH = 10
"""With fewer cases the test cannot speak, whatever they say."""


def run(
    run_path: Path,
    *,
    ensemble: tuple[Path, ...] = (),
    data: Path | None = None,
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    offline: bool = False,
) -> None:
    """Write RUN/post.json and print what was chosen, for the run or for an ensemble that it is the first of."""
    config = RunFolder(run_path).config()
    root = data or (Path(config.data.root) if config.data.root else None)
    if root is None:
        raise DataError(f"{run_path}: names no data folder; give it with --data")
    manifest = load_manifest(root)
    cases = [case for case in manifest.select("val", config.data.fold) if case.mask is not None]
    if not cases:
        raise DataError(f"{root}: no labelled validation cases; prepare with a validation split")
    keep_all_freed_memory()
    loaded = load_ensemble([run_path, *ensemble], overrides=overrides, offline=offline, device=pick_device(device))
    if manifest.classes != loaded.classes:
        raise DataError(
            f"{root}: has {', '.join(manifest.classes)}, but the run was trained for {', '.join(loaded.classes)}; "
            "give --data with the same classes"
        )
    choices = _choices(loaded, cases)
    if len(cases) < _ENOUGH:
        log_info(f"only {pluralize(len(cases), 'validation case')}: too few to tell help from chance")
    evidence = {"runs": [item["run"] for item in loaded.runs], "validation": str(root), "cases": len(cases)}
    path = save_rules(run_path, choices, provenance=loaded.provenance, evidence=evidence)
    for name, choice in choices.items():
        print(_line(name, choice))
    words = [word for other in ensemble for word in ("--ensemble", str(other))]
    words += [word for item in overrides for word in ("--set", item)]
    extra = "".join(f" {word}" for word in map(shlex.quote, words))
    print(f"written to {path}; used by: guidino predict {run_path} IMAGES -o MASKS --post auto{extra}")


def _choices(loaded: LoadedEnsemble, cases: Sequence[Case]) -> dict[str, SelectedRule]:
    trials = {name: RuleSelector() for name in loaded.classes[1:]}
    for case in track(cases, total=len(cases), description="tune-post"):
        if case.mask is None:
            continue
        labels, truth = _labels(loaded, case.image), read_label_map(case.mask)
        if labels.shape != truth.shape:
            found, wanted = width_by_height(truth.shape), width_by_height(labels.shape)
            raise DataError(
                f"{case.mask}: is {found} px (width x height), its image {case.image} is {wanted}; correct one, "
                "prepare again"
            )
        for index, trial in enumerate(trials.values(), start=1):
            trial.add(labels == index, truth == index)
    return {name: trial.choose() for name, trial in trials.items()}


def _labels(loaded: LoadedEnsemble, image: Path) -> np.ndarray:
    """(H, W) uint8; a large image strip by strip, of which the labels alone are held as a whole."""
    if loaded.needs_strips(read_size(image)):
        return np.concatenate(list(loaded.predictor.label_rows(open_regions(image))))
    return loaded.predictor.segment([DecodedImage(*read(image))])[0].labels


def _line(name: str, choice: SelectedRule) -> str:
    tried = f"of {len(CANDIDATES)} tried, p {choice.p:.2g}, {pluralize(choice.cases, 'case')}"
    gain = f"Dice {choice.before:.4f} -> {choice.best_after:.4f}"
    if str(choice.rule) != "none":
        return f"{name}: {choice.rule} ({gain}, best {tried})"
    return f"{name}: none (best {tried}: {choice.best}, {gain}, not beyond chance)"
