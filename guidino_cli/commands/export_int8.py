"""`guidino export --openvino --int8`: quantise a network, and keep it only if its validation Dice hardly falls."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from guidino_cli.commands.validation_cases import ValidationCases, find_validation_cases, segment_validation_case
from guidino_cli.data.file_records import require_unchanged_files
from guidino_cli.data.manifest import manifest_sha256
from guidino_cli.engine.openvino.folder import NETWORK_FILES, EngineFolder
from guidino_cli.engine.openvino.packages import package_versions
from guidino_cli.engine.openvino.quantization import choose_evenly, cut_windows, quantize_network
from guidino_cli.engine.prediction.ensemble import LoadedEnsemble, load_ensemble
from guidino_cli.engine.prediction.postprocessing import dice_of_case
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import DataError, GateError
from guidino_cli.evaluation.statistics import bootstrap_means, percentile_interval
from guidino_cli.files import file_sha256, lines_sha256
from guidino_cli.progress import log_info, pluralize, track
from guidino_cli.types import Case


@dataclass(frozen=True)
class QuantizationData:
    """Images to measure ranges on, and the cases that decide.

    Attributes:
        validation: Labelled validation cases.
        images: Cases of the training part.
        max_drop: Largest accepted fall of the mean Dice.
    """

    validation: ValidationCases
    images: list[Case]
    max_drop: float


def find_calibration(run_path: Path, data: Path, max_drop: float) -> QuantizationData:
    """The cases of a prepared folder for a run.

    Raises:
        DataError: No prepared folder, other classes, no labelled validation cases, no training images; volumes; or
            changed files.
    """
    validation = find_validation_cases(run_path, data)
    classes, manifest = RunFolder(run_path).facts()["classes"], validation.manifest
    if manifest.classes != classes:
        raise DataError(
            f"{data}: has {', '.join(manifest.classes)}, but the run was trained for {', '.join(classes)}; "
            "give --calibrate with the same classes"
        )
    images = choose_evenly(manifest.select("train", RunFolder(run_path).config().data.fold))
    if not images:
        raise DataError(f"{data}: no training images to measure ranges on; prepare with a training split")
    require_unchanged_files(images, validation.root)
    return QuantizationData(validation, images, max_drop)


def quantize_folder(engine: EngineFolder, about: dict[str, Any], calibration: QuantizationData, out: Path) -> list[str]:
    """Replace the network of a folder by one in int8.

    Args:
        engine: A complete folder in full precision.
        about: What `engine.json` says whatever the precision.
        calibration: See `find_calibration`.
        out: Name of the folder in messages.

    Returns:
        Lines about what was done and what it costs.

    Raises:
        GateError: The mean Dice falls by more than is accepted.
        UserError: See `quantize_network` and `cut_windows`.
    """
    cases = calibration.validation.cases
    full = _load(engine)
    dice = _dice(full, cases, "full precision")
    log_info(f"quantising on {pluralize(len(calibration.images), 'training image')}; this takes some minutes")
    target = engine.path / "int8" / NETWORK_FILES[0]
    target.parent.mkdir()
    quantize_network(engine.network, target, cut_windows(calibration.images, full.predictor.members[0]))
    for name in NETWORK_FILES:
        (target.parent / name).replace(engine.path / name)
    shutil.rmtree(target.parent)
    weights = lines_sha256(file_sha256(engine.path / name) for name in NETWORK_FILES)
    engine.write_facts(about | {"precision": "int8", "weights": weights})
    falls = dice - _dice(_load(engine), cases, "int8")
    before, drop = float(dice.mean()), float(falls.mean())
    low, high = percentile_interval(bootstrap_means(falls[:, None], [case.group for case in cases])[:, 0])
    figures = (
        f"mean Dice of {pluralize(len(cases), 'validation case')}: {before:.4f} in full precision, "
        f"{before - drop:.4f} in int8; a fall of {drop:.4f} (95 % CI {low:.4f} to {high:.4f})"
    )
    if not drop <= calibration.max_drop:
        advice = "leave out --int8, or accept more with --max-drop"
        raise GateError(f"{out}: not written; {figures}, of which {calibration.max_drop:g} is accepted; {advice}")
    validation = calibration.validation
    int8 = {
        "calibration_images": len(calibration.images),
        "validation_cases": len(cases),
        "dice_full_precision": before,
        "dice_int8": before - drop,
        "drop": drop,
        "drop_ci_low": low,
        "drop_ci_high": high,
        "max_drop": calibration.max_drop,
        "data": validation.manifest.name,
        "data_sha256": manifest_sha256(validation.manifest_path),
    }
    versions = about["versions"] | package_versions("nncf")
    engine.write_facts(about | {"versions": versions, "precision": "int8", "weights": weights, "int8": int8})
    images = pluralize(len(calibration.images), "training image")
    return [
        f"ranges measured on {images} of {validation.manifest.name}",
        f"{figures}; {calibration.max_drop:g} is accepted",
    ]


def _load(engine: EngineFolder) -> LoadedEnsemble:
    return load_ensemble([engine.path], device=torch.device("cpu"))


def _dice(loaded: LoadedEnsemble, cases: Sequence[Case], description: str) -> np.ndarray:
    """Of each case, the mean over the foreground classes; the Dice of two empty masks is 1."""
    scores = []
    for case in track(cases, total=len(cases), description=description):
        labels, truth = segment_validation_case(loaded, case)
        scores.append([dice_of_case(labels == index, truth == index) for index in range(1, len(loaded.classes))])
    return np.mean(scores, axis=1)
