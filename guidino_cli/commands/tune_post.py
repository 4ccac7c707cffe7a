"""`guidino tune-post`: choose post-processing on the validation cases of a run."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from guidino_cli.data.cases import read_truth
from guidino_cli.data.file_records import require_unchanged_files
from guidino_cli.data.manifest import ignore_label, load_manifest
from guidino_cli.data.readers import open_regions, read
from guidino_cli.data.regions import read_size
from guidino_cli.data.volumes.reading import read_volume, read_volume_labels
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.prediction.ensemble import (
    LoadedEnsemble,
    ensemble_arguments,
    load_ensemble,
)
from guidino_cli.engine.prediction.postprocessing import CANDIDATES, RuleSelector, SelectedRule, save_rules
from guidino_cli.engine.prediction.predictor import DecodedImage
from guidino_cli.engine.prediction.volume_ensemble import LoadedVolumeEnsemble, load_volume_ensemble
from guidino_cli.engine.runs.facts import is_volume_run
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import DataError, explain_out_of_memory
from guidino_cli.options.prediction import TunePostOptions
from guidino_cli.processes import keep_all_freed_memory
from guidino_cli.progress import log_info, pluralize, track
from guidino_cli.types import Case, VolumeSource, width_by_height

_MIN_CASES = 10
"""With fewer cases the test has no power."""


def run(run_path: Path, options: TunePostOptions) -> None:
    """Write RUN/post.json and print the chosen rules, for a run or for an ensemble whose first run it is.

    Raises:
        DataError: No labelled validation cases, or cases with other classes.
    """
    config = RunFolder(run_path).config()
    root = options.data or (Path(config.data.root) if config.data.root else None)
    if root is None:
        raise DataError(f"{run_path}: names no data folder; give it with --data")
    manifest = load_manifest(root)
    if manifest.ignore_label is None:
        # What --data records wins over the setting, which was for the run's own data.
        manifest = ignore_label(manifest, config.data.ignore_label, source=f"{run_path}: data.ignore_label")
    cases = [case for case in manifest.select("val", config.data.fold) if case.mask is not None]
    if not cases:
        raise DataError(f"{root}: no labelled validation cases; prepare with a validation split")
    require_unchanged_files(cases, root)
    keep_all_freed_memory()
    runs, is_volumes = [run_path, *(options.ensemble or ())], is_volume_run(run_path)
    if manifest.is_volumes != is_volumes:
        kinds = ("volumes", "images") if is_volumes else ("images", "volumes")
        raise DataError(f"{root}: holds {kinds[1]}, but the run was trained on {kinds[0]}; give --data with {kinds[0]}")
    loaded = _load(runs, options, is_volumes=is_volumes)
    if manifest.classes != loaded.classes:
        raise DataError(
            f"{root}: has {', '.join(manifest.classes)}, but the run was trained for {', '.join(loaded.classes)}; "
            "give --data with the same classes"
        )
    with explain_out_of_memory("lower predict.batch_size and predict.memory_gb with --set"):
        selected = _select_rules(loaded, cases)
    if len(cases) < _MIN_CASES:
        log_info(f"only {pluralize(len(cases), 'validation case')}: too few to tell help from chance")
    evidence = {"runs": [item["run"] for item in loaded.runs], "validation": str(root), "cases": len(cases)}
    path = save_rules(run_path, selected, provenance=loaded.provenance, evidence=evidence)
    for name, choice in selected.items():
        print(_format_rule(name, choice))
    extra = "".join(f" {word}" for word in map(shlex.quote, ensemble_arguments(options.ensemble, options.overrides)))
    print(f"written to {path}; used by: guidino predict {run_path} IMAGES -o MASKS --post auto{extra}")


def _load(runs: Sequence[Path], options: TunePostOptions, *, is_volumes: bool) -> LoadedEnsemble | LoadedVolumeEnsemble:
    overrides, device = tuple(options.overrides or ()), pick_device(options.device)
    if is_volumes:
        return load_volume_ensemble(runs, overrides=overrides, offline=options.offline, device=device)
    return load_ensemble(runs, overrides=overrides, offline=options.offline, device=device)


def _select_rules(loaded: LoadedEnsemble | LoadedVolumeEnsemble, cases: Sequence[Case]) -> dict[str, SelectedRule]:
    selectors = {name: RuleSelector() for name in loaded.classes[1:]}
    for case in track(cases, total=len(cases), description="tune-post"):
        if case.mask is None:
            continue
        if isinstance(loaded, LoadedVolumeEnsemble):
            labels, (truth, ignored) = _segment_volume(loaded, case)
        else:
            labels, (truth, ignored) = _labels(loaded, case.image), read_truth(case)
        if labels.shape != truth.shape:
            found, wanted = width_by_height(truth.shape), width_by_height(labels.shape)
            raise DataError(
                f"{case.mask}: is {found} px (width x height), its image {case.image} is {wanted}; correct one, "
                "prepare again"
            )
        if ignored is not None:
            labels = np.where(ignored, 0, labels)
        for index, selector in enumerate(selectors.values(), start=1):
            selector.add(labels == index, truth == index)
    return {name: selector.select() for name, selector in selectors.items()}


def _segment_volume(
    loaded: LoadedVolumeEnsemble, case: Case
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray | None]]:
    """Labels (Z, Y, X), and what `read_truth` gives of an image, in the source's grid."""
    if case.volume is None or case.mask is None:
        raise ValueError(f"case {case.id} is no labelled volume")
    volume = read_volume(case.volume.sources, channels=len(loaded.channels))
    truth = read_volume_labels(VolumeSource(case.mask), volume.grid)
    ignored = None if case.ignore_label is None else truth == case.ignore_label
    labels = loaded.predictor.segment(volume).labels
    return labels, (truth if ignored is None else np.where(ignored, 0, truth), ignored)


def _labels(loaded: LoadedEnsemble, image: Path) -> np.ndarray:
    """(H, W) uint8; of a large image, only the labels are held as a whole."""
    if loaded.needs_strips(read_size(image)):
        return np.concatenate(list(loaded.predictor.label_rows(open_regions(image))))
    decoded = DecodedImage(*read(image))
    return loaded.predictor.segment([decoded], keep_probabilities=False, keep_guide=False)[0].labels


def _format_rule(name: str, choice: SelectedRule) -> str:
    tried = f"of {len(CANDIDATES)} tried, p {choice.p:.2g}, {pluralize(choice.cases, 'case')}"
    gain = f"Dice {choice.before:.4f} -> {choice.best_after:.4f}"
    if str(choice.rule) != "none":
        return f"{name}: {choice.rule} ({gain}, best {tried})"
    return f"{name}: none (best {tried}: {choice.best}, {gain}, not beyond chance)"
