"""The end of a run that learns affinities: its threshold, chosen on the validation cases, with the figures of both."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from guidino_cli.commands.runs.figures import GRID_FILE, draw_or_warn, evenly_spaced
from guidino_cli.config import RunConfig
from guidino_cli.data.cases import read_stored_truth
from guidino_cli.data.manifest import load_manifest
from guidino_cli.data.volumes.stored import open_array
from guidino_cli.engine.prediction.instance_threshold import (
    CURVE_NAME,
    FILE_NAME,
    ThresholdCurve,
    load_labelling,
    measure_thresholds,
    save_threshold,
)
from guidino_cli.engine.prediction.instances import InstancePredictor
from guidino_cli.engine.prediction.volume_ensemble import preprocessing_of
from guidino_cli.engine.prediction.volumes import VolumeMember
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.inputs import require_fitting_target
from guidino_cli.engine.runs.loading import load_best
from guidino_cli.engine.runs.precision import prediction_precision
from guidino_cli.errors import DataError
from guidino_cli.files import write_atomically
from guidino_cli.metrics.overlap import adapted_rand_error
from guidino_cli.models.composed import Model
from guidino_cli.plots.instances import InstanceRow, draw_instance_grid, draw_threshold_curve
from guidino_cli.progress import pluralize, track
from guidino_cli.types import Case

FIGURE_FILE = "instances.png"
_SHOWN = 4


def remove_instance_files(folder: RunFolder) -> None:
    """Delete what belongs to the instances of a run that is overwritten."""
    for name in (FILE_NAME, CURVE_NAME, FIGURE_FILE):
        (folder.path / name).unlink(missing_ok=True)


def finish_instances(folder: RunFolder, *, device: torch.device, offline: bool, model: Model | None) -> str:
    """Choose the threshold of a trained run, draw its figures, and say what was chosen; for `model` see `load_best`."""
    member, config = _load_member(folder, device=device, offline=offline, model=model)
    curve = _choose_threshold(folder, member, config, validation_cases(config))
    draw_or_warn(lambda: _draw_validation(folder, member, config), GRID_FILE)
    return f"{describe_curve(curve, config)}\nfigures {folder.path / FIGURE_FILE} and {folder.path / GRID_FILE}"


def choose_threshold(
    folder: RunFolder,
    *,
    device: torch.device,
    offline: bool,
    data: Path | None = None,
    overrides: tuple[str, ...] = (),
) -> ThresholdCurve:
    """Measure the thresholds on the validation cases and write `instances.json`, `.csv` and `.png` into the run.

    Raises:
        ConfigError: The data holds classes.
        DataError: There are no validation cases with instances.
    """
    member, config = _load_member(folder, device=device, offline=offline, overrides=overrides)
    return _choose_threshold(folder, member, config, validation_cases(config, data))


def _load_member(
    folder: RunFolder,
    *,
    device: torch.device,
    offline: bool,
    overrides: tuple[str, ...] = (),
    model: Model | None = None,
) -> tuple[VolumeMember, RunConfig]:
    model, config, facts = load_best(folder, device=device, model=model, overrides=overrides, offline=offline)
    precision = prediction_precision(config, facts, device)
    return VolumeMember.from_config(model, config, preprocessing_of(facts, config), precision=precision), config


def _choose_threshold(
    folder: RunFolder, member: VolumeMember, config: RunConfig, cases: Sequence[Case]
) -> ThresholdCurve:
    curve = measure_thresholds(
        member,
        cases,
        config.predict,
        progress=lambda items: track(items, total=len(items), description="choosing the threshold"),
    )
    save_threshold(folder.path, curve, config.predict, precision=member.window.precision)
    count = pluralize(curve.cases, "validation case")
    figure = draw_threshold_curve(
        [point.threshold for point in curve.points],
        {
            "adapted Rand error": [point.are for point in curve.points],
            "VOI split (bits)": [point.voi_split for point in curve.points],
            "VOI merged (bits)": [point.voi_merge for point in curve.points],
        },
        chosen=curve.best.threshold,
        name=f"run {folder.path.resolve().name}: {config.predict.instances}, {count}",
    )
    draw_or_warn(lambda: write_atomically(folder.path / FIGURE_FILE, figure.savefig), FIGURE_FILE)
    return curve


def describe_curve(curve: ThresholdCurve, config: RunConfig) -> str:
    """The chosen threshold and its scores in one line."""
    best = curve.best
    return (
        f"threshold {best.threshold:g} ({config.predict.instances}): adapted Rand error {best.are:.4f}, VOI "
        f"{best.voi_split:.3f} split + {best.voi_merge:.3f} merged, {pluralize(curve.cases, 'validation case')}"
    )


def validation_cases(config: RunConfig, data: Path | None = None) -> Sequence[Case]:
    """Labelled validation cases of a run with instances.

    Raises:
        ConfigError: The data holds classes.
        DataError: There are none.
    """
    root = data or Path(str(config.data.root))
    manifest = load_manifest(root, takes_instances=True)
    require_fitting_target(manifest, config)
    cases = [case for case in manifest.select("val", config.data.fold) if case.mask is not None]
    if not cases:
        raise DataError(f"{root}: no labelled validation cases; prepare with a validation split")
    return cases


def _draw_validation(folder: RunFolder, member: VolumeMember, config: RunConfig) -> None:
    predictor = InstancePredictor(member, load_labelling(folder.path, config.predict))
    intensity = member.preprocessing.intensities[0].for_pictures
    rows = []
    for case in evenly_spaced(validation_cases(config), _SHOWN):
        if case.volume is None:
            continue
        values, statistics = open_array(case.volume.image), case.volume.statistics
        labels = predictor.segment_stored(values, statistics, case.volume.spacing_mm).labels
        truth, _ = read_stored_truth(case)
        number = int((truth > 0).sum(axis=(1, 2)).argmax())
        shown = intensity.normalize(np.asarray(values[0, number]), statistics[0])[0]
        score = f"ARE {adapted_rand_error(labels, truth):.3f}" if truth.any() else "no instance"
        rows.append(InstanceRow(case.id, score, shown, truth[number], labels[number]))
    figure = draw_instance_grid(rows, name=f"run {folder.path.resolve().name}: validation cases")
    write_atomically(folder.path / GRID_FILE, figure.savefig)
