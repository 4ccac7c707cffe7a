"""`guidino drift`: say how far new images are from those a run was trained on."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.commands.inputs import list_input_images
from guidino_cli.commands.text_tables import print_table, print_wrapped
from guidino_cli.data.images import find_images
from guidino_cli.data.manifest import is_prepared, load_manifest
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.drift.descriptors import describe_files, load_instrument
from guidino_cli.engine.drift.distances import LEVEL, ImageDrift, SetDrift, image_drift, set_drift
from guidino_cli.engine.drift.reference import DRIFT_FILE, MIN_IMAGES, DriftReference, require_enough_images
from guidino_cli.engine.runs.facts import is_volume_run
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import ConfigError, DataError, GateError, PartialError
from guidino_cli.evaluation.gates import GateResult
from guidino_cli.files import write_text
from guidino_cli.models.base import Backbone
from guidino_cli.options.drift import DriftOptions
from guidino_cli.outputs import require_output_folder
from guidino_cli.progress import join_first, log_info, log_warning, pluralize, track
from guidino_cli.tables import to_csv

_MOST_TRAINING, _MOST_VALIDATION = 400, 200
"""More images make the statistics hardly better; those taken are evenly spaced by name."""
_FEW = 10
"""With fewer images only a large drift of a set is found."""


def run(run_path: Path, images: Sequence[Path], options: DriftOptions) -> None:
    """Compare images with the statistics in RUN/drift.safetensors, which are written first if they are missing.

    Raises:
        ConfigError: Options that do not go together.
        DataError: A run on volumes, no statistics and no data to make them of, or no image that can be read.
        GateError: The set is farther than `--max`; everything is written.
        PartialError: Some images could not be read; the others are compared.
    """
    _check(run_path, images, options)
    files = list_input_images(images, options.split) if images else []
    if options.out is not None:
        inputs = [run_path, *images]
        require_output_folder(options.out, inputs, overwrite=options.overwrite, may_be_nested=True)
    backbone = load_instrument(pick_device(options.device))
    reference = _reference(run_path, backbone, options)
    if not files:
        return
    paths, descriptors, failed = _describe(backbone, files, "drift")
    if not paths:
        raise DataError(f"none of {pluralize(len(failed), 'image')} could be read: {failed[0]}")
    placed = reference.place(np.stack(descriptors))
    single, whole = image_drift(reference, placed), set_drift(reference, placed)
    gate = _gate(whole, options.max_distance, len(paths))
    report = _report(run_path, reference, paths, single, whole, gate, failed)
    if options.out is not None:
        _write(options.out, report)
    if options.as_json:
        print(json.dumps(report, indent=1))
    else:
        _print(report, gate, options)
    if gate is not None and not gate.passed:
        raise GateError(gate.sentence)
    if failed:
        raise PartialError(
            f"{len(failed)} of {pluralize(len(files), 'image')} could not be read: {join_first(failed, '; ', limit=3)}"
        )


def _check(run_path: Path, images: Sequence[Path], options: DriftOptions) -> None:
    if is_volume_run(run_path):
        raise DataError(
            f"{run_path}: was trained on volumes or on pictures of several channels, and drift compares images; cut "
            "volumes into slices (guidino slices), and train and compare on these"
        )
    if not images and not options.fit:
        raise ConfigError(f"no IMAGES: give images to compare, or --fit (guidino drift {run_path} --fit)")
    if options.data is not None and not options.fit:
        raise ConfigError(f"--data {options.data}: is for --fit; add --fit, or leave it out")
    if options.max_distance is not None:
        if not images:
            raise ConfigError("--max: is for IMAGES; give some")
        if not (math.isfinite(options.max_distance) and options.max_distance > 0):
            raise ConfigError(f"--max {options.max_distance}: expected a number above 0, such as 1")


def _reference(run_path: Path, backbone: Backbone, options: DriftOptions) -> DriftReference:
    """The statistics in the run; made of its images if they are missing or to be made again."""
    identity = str(backbone.identity["sha256"])
    if (run_path / DRIFT_FILE).is_file() and not options.fit:
        found = DriftReference.load(run_path)
        if found.instrument != identity:
            raise DataError(
                f"{run_path / DRIFT_FILE}: was made by other weights of the backbone ({found.instrument[:12]}..., "
                f"expected {identity[:12]}...); write it again: guidino drift {run_path} --fit"
            )
        return found
    training, validation = _own_images(run_path, options.data)
    with _explain_few(run_path, options):
        # Describing them takes minutes.
        require_enough_images(len(training), len(validation))
    own = [_describe(backbone, part, name) for part, name in ((training, "training"), (validation, "validation"))]
    if not own[0][0]:
        reason = own[0][2][0] if own[0][2] else "it has no training images"
        raise DataError(f"{options.data or run_path}: none of its training images could be read: {reason}")
    parts = [np.array(descriptors, dtype=np.float32) for _, descriptors, _ in own]
    if not len(parts[1]):
        parts[1] = parts[1].reshape(0, parts[0].shape[-1])
    with _explain_few(run_path, options):
        reference = DriftReference.fit(parts[0], parts[1], instrument=identity)
    reference.save(run_path)
    count = len(reference.training) + len(reference.held_back)
    log_info(f"guidino: statistics of {pluralize(count, 'image')} written to {run_path / DRIFT_FILE}")
    if not reference.is_validation:
        log_warning(
            f"fewer than {MIN_IMAGES} validation images: a random third of the images is held out. If several are "
            "of one patient, false alarms will be more frequent than 5 %"
        )
    return reference


@contextmanager
def _explain_few(run_path: Path, options: DriftOptions) -> Iterator[None]:
    """Turn the `ValueError` of too few images into a `DataError` that says what to give."""
    try:
        yield
    except ValueError as error:
        hint = f"give more images of the same source: guidino drift {run_path} --fit --data FOLDER"
        raise DataError(f"{options.data or run_path}: cannot tell what is usual from {error}; {hint}") from error


def _own_images(run_path: Path, data: Path | None) -> tuple[list[Path], list[Path]]:
    """Images of a run for training and validation, of a prepared folder or, all for training, of a folder."""
    config = RunFolder(run_path).config()
    again = f"guidino drift {run_path} --fit --data FOLDER"
    root = data or (Path(config.data.root) if config.data.root else None)
    if root is None or not root.exists():
        state = f"its data folder {root} is gone" if root is not None and data is None else f"{root}: no such folder"
        raise DataError(f"{run_path}: has no {DRIFT_FILE}, and {state}; give images of its source: {again}")
    if not is_prepared(root):
        found = find_images(root) if root.is_dir() else []
        if not found:
            raise DataError(f"{root}: no images directly in this folder; {again}")
        return _thin(found, _MOST_TRAINING + _MOST_VALIDATION), []
    manifest = load_manifest(root)
    if manifest.is_volumes:
        raise DataError(f"{root}: holds volumes, and drift compares images; {again}")
    parts = [[case.image for case in manifest.select(split, config.data.fold)] for split in ("train", "val")]
    return _thin(parts[0], _MOST_TRAINING), _thin(parts[1], _MOST_VALIDATION)


def _thin(paths: Sequence[Path], most: int) -> list[Path]:
    """At most so many paths, evenly spaced."""
    count = min(len(paths), most)
    return [paths[number * len(paths) // count] for number in range(count)]


def _describe(
    backbone: Backbone, paths: Sequence[Path], description: str
) -> tuple[list[Path], list[np.ndarray], list[str]]:
    """The paths that could be read, their descriptors, and errors of the others, which are printed."""
    kept, descriptors, failed = [], [], []
    for path, found in track(describe_files(backbone, paths), total=len(paths), description=description):
        if isinstance(found, DataError):
            log_info(f"guidino: {found}")
            failed.append(str(found))
        else:
            kept.append(path)
            descriptors.append(found)
    return kept, descriptors, failed


def _gate(whole: SetDrift, limit: float | None, count: int) -> GateResult | None:
    if limit is None:
        return None
    note = f"n = {count}, p = {whole.p_value:.3g}"
    return GateResult(f"drift <= {limit:g} (set)", whole.distance, whole.distance <= limit, note)


def _report(
    run_path: Path,
    reference: DriftReference,
    paths: Sequence[Path],
    single: ImageDrift,
    whole: SetDrift,
    gate: GateResult | None,
    failed: Sequence[str],
) -> dict[str, Any]:
    order = np.argsort(-single.distance, kind="stable").tolist()
    rows = [
        {
            "image": str(paths[place]),
            "distance": round(float(single.distance[place]), 4),
            "p_value": round(float(single.p_value[place]), 4),
        }
        for place in order
    ]
    return {
        "run": str(run_path),
        "reference": {
            "training": len(reference.training),
            "held_back": len(reference.held_back),
            "held_back_are": "validation images" if reference.is_validation else "training images",
        },
        "images": len(paths),
        "set": {"distance": round(whole.distance, 4), "p_value": round(whole.p_value, 4)},
        "is_drift": whole.p_value <= LEVEL,
        "beyond_1": int((single.distance > 1).sum()),
        "gate": None if gate is None else {"sentence": gate.sentence, "passed": gate.passed},
        "failed": list(failed),
        "per_image": rows,
    }


def _write(out: Path, report: dict[str, Any]) -> None:
    header = ["image", "distance", "p_value"]
    write_text(out / "images.csv", to_csv(header, ([row[name] for name in header] for row in report["per_image"])))
    write_text(out / "drift.json", json.dumps(report, indent=1) + "\n")


def _print(report: dict[str, Any], gate: GateResult | None, options: DriftOptions) -> None:
    count, rows = report["images"], report["per_image"][: options.show]
    if rows:
        shown = [(Path(row["image"]).name, f"{row['distance']:.2f}", f"{row['p_value']:.3f}") for row in rows]
        print_table(["image, the farthest first", "distance", "p"], [("", shown)])
        if count > len(rows):
            rest = f"the others in {options.out / 'images.csv'}" if options.out else "the others with -o or --show"
            print(f"... and {count - len(rows)} more; {rest}\n")
    whole, known = report["set"], report["reference"]
    held_back = f"{known['held_back']} held-out {known['held_back_are']}"
    print_wrapped(
        f"images: {report['beyond_1']} of {count} beyond distance 1, where 5 % are expected of the same source "
        f"({held_back})"
    )
    verdict = "drift: the images differ from the training images" if report["is_drift"] else "no drift found"
    print_wrapped(f"set: distance {whole['distance']:.2f}, p = {whole['p_value']:.3g}: {verdict}")
    if count < _FEW:
        print_wrapped(f"{pluralize(count, 'image')}: few to judge a set; 30 are better")
    if gate is not None and gate.passed:
        print(gate.sentence)
