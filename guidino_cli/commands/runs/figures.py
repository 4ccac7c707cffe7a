"""Figures of a training run: the training curve, and a grid of validation cases at the end."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from guidino_cli.data.cases import read_stored_truth, read_truth
from guidino_cli.data.manifest import ignore_label, load_manifest
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.data.volumes.stored import open_array
from guidino_cli.engine.prediction.predictor import Predictor
from guidino_cli.engine.prediction.volumes import VolumePredictor
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.inputs import NetworkInput
from guidino_cli.engine.runs.loading import load_best
from guidino_cli.engine.runs.precision import prediction_precision
from guidino_cli.errors import first_line
from guidino_cli.files import write_atomically
from guidino_cli.metrics.overlap import mean_dice
from guidino_cli.models.composed import Model
from guidino_cli.plots.history import ValidationRow, training_curve, validation_grid
from guidino_cli.plots.volumes import VolumeView, view_volume, volume_validation_grid
from guidino_cli.progress import log_warning
from guidino_cli.types import Case

CURVE_FILE, GRID_FILE = "curve.png", "validation.png"
_SHOWN = 6

HistoryRows = Sequence[Mapping[str, Any]]
T = TypeVar("T")


def draw_curve(folder: RunFolder, history: HistoryRows) -> None:
    """Write `curve.png` into a run's folder."""
    write_atomically(folder.path / CURVE_FILE, training_curve(history, name=_title(folder)).savefig)


def remove_figures(folder: RunFolder) -> None:
    """Delete the figures of a run that is overwritten."""
    for name in (CURVE_FILE, GRID_FILE):
        (folder.path / name).unlink(missing_ok=True)


def curve_callback(folder: RunFolder, *, every_seconds: float = 30.0) -> Callable[[HistoryRows], None]:
    """A callback for the history after each epoch that redraws the curve at most every `every_seconds`."""
    return throttled(lambda history: draw_curve(folder, history), CURVE_FILE, every_seconds=every_seconds)


def throttled(draw: Callable[[HistoryRows], None], name: str, *, every_seconds: float) -> Callable[[HistoryRows], None]:
    """A callback for the history that draws the figure of that file name at most every `every_seconds`."""
    drawn_at = -every_seconds

    def update(history: HistoryRows) -> None:
        nonlocal drawn_at
        if time.monotonic() - drawn_at < every_seconds:
            return
        draw_or_warn(lambda: draw(history), name)
        drawn_at = time.monotonic()

    return update


def draw_or_warn(draw: Callable[[], None], name: str, *, outcome: str = "the run continues") -> bool:
    """Draw the figure of that file name; an error becomes a warning, since a figure must not stop a run.

    Returns:
        Whether it was drawn.
    """
    try:
        draw()
    except Exception as error:
        log_warning(f"{name} could not be drawn ({first_line(error)}); {outcome}")
        return False
    return True


def draw_validation_grid(folder: RunFolder, *, device: torch.device, offline: bool, model: Model | None = None) -> None:
    """Write `validation.png`: up to six validation cases, evenly spread over their list, with the best weights.

    Windows are those of validation, without mirroring, so that a case's Dice is the one that entered the run's. Volumes
    are shown in three planes.

    Args:
        folder: Folder of a finished run.
        device: Where to load the model.
        offline: Never download its backbone.
        model: The trained model, which is given the best weights: a second one may not fit on its
            device. None to load the run.
    """
    model, config, facts = load_best(folder, device=device, model=model, offline=offline)
    manifest = load_manifest(Path(str(config.data.root)))
    manifest = ignore_label(manifest, config.data.ignore_label, source="data.ignore_label")
    cases = [case for case in manifest.select("val", config.data.fold) if case.mask is not None]
    shown, classes, name = evenly_spaced(cases, _SHOWN), facts["classes"], f"{_title(folder)}: validation cases"
    volumes = NetworkInput.from_facts(facts, config).volumes
    precision = prediction_precision(config, facts, model.mean.device)
    if volumes is None:
        predictor = Predictor.from_config(model, config, mirror=False, precision=precision)
        figure = validation_grid(
            [_row(predictor, case, num_classes=len(classes)) for case in shown], name=name, classes=classes
        )
    else:
        of_volumes = VolumePredictor.from_config(model, config, volumes, mirror=False, precision=precision)
        figure = volume_validation_grid(
            [_volume_row(of_volumes, volumes, case, num_classes=len(classes)) for case in shown],
            name=name,
            classes=classes,
        )
    write_atomically(folder.path / GRID_FILE, figure.savefig)


def _row(predictor: Predictor, case: Case, *, num_classes: int) -> ValidationRow:
    result = predictor.segment_file(case.image, keep_probabilities=False)
    if case.mask is None:
        raise ValueError(f"case {case.id} has no mask")
    truth, ignored = read_truth(case)
    guide = None if result.guide is None else result.guide.amax(dim=0).numpy()
    score = mean_dice(result.labels, truth, num_classes=num_classes, ignored=ignored)
    return ValidationRow(case.id, score, result.pixels, truth, result.labels, guide)


def _volume_row(
    predictor: VolumePredictor, volumes: VolumePreprocessing, case: Case, *, num_classes: int
) -> tuple[VolumeView, float]:
    """Three planes of a case on its stored grid, and its mean Dice there."""
    if case.volume is None:
        raise ValueError(f"case {case.id} is no volume")
    statistics, spacing_mm = case.volume.statistics, case.volume.spacing_mm
    values = open_array(case.volume.image)
    result = predictor.segment_stored(values, statistics, spacing_mm)
    truth, ignored = read_stored_truth(case)
    score = mean_dice(result.labels, truth, num_classes=num_classes, ignored=ignored)
    intensity = volumes.intensities[0].for_pictures
    view = view_volume(
        case.id,
        values,
        spacing_mm,
        truth=truth,
        labels=result.labels,
        guide=None if result.guide is None else result.guide.max(axis=0),
        normalize=lambda slices: intensity.normalize(slices[0], statistics[0])[0],
        oriented=not volumes.is_picture,
    )
    return view, score


def evenly_spaced(items: Sequence[T], count: int) -> list[T]:
    """Up to `count` >= 2 items, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def _title(folder: RunFolder) -> str:
    return f"run {folder.path.resolve().name}"
