"""What `guidino register` writes for a pair: field, warped image and labels, a figure, and its scores."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.commands.register_pairs import PairFiles, stamp_files
from guidino_cli.data.image_writing import write_png
from guidino_cli.data.volumes.grid import Grid
from guidino_cli.data.volumes.intensities import Limits
from guidino_cli.data.volumes.writing import write_displacements, write_volume_labels, write_volume_map
from guidino_cli.errors import DataError
from guidino_cli.files import write_atomically, write_text
from guidino_cli.json_files import read_json_object
from guidino_cli.plots.registration import RegistrationView, registration_figure
from guidino_cli.registration.inputs import RegistrationImage, choose_intensity, map_to_unit, to_unit_range
from guidino_cli.registration.method import PairScores, RegisteredPair

RESULT_FILE, FIELD_FILE, FIGURE_FILE = "result.json", "displacement.nii.gz", "figure.png"
METRICS = ("dice", "hd95", "asd")


def write_pair(
    folder: Path, done: RegisteredPair, files: PairFiles, settings: Mapping[str, Any], *, window: Limits | None,
    figures: bool,
) -> dict[str, Any]:  # fmt: skip
    """Write all files of a pair, the scores last, so that a folder with them is complete.

    Returns:
        The content of `RESULT_FILE`.
    """
    grid = done.pair.fixed.grid
    (folder / RESULT_FILE).unlink(missing_ok=True)
    write_displacements(folder / FIELD_FILE, done.field, grid)
    _write_warped(folder, done.warped, done.pair.moving, grid)
    if done.warped_labels is not None:
        name = "warped_mask.png" if grid.is_picture else "warped_mask.nii.gz"
        write_volume_labels(folder / name, done.warped_labels, grid)
    result = describe_result(files, done.scores, settings, notes=done.pair.notes)
    if figures:
        figure = registration_figure(_view(files.name, done, window), detail=describe_scores(result))
        write_atomically(folder / FIGURE_FILE, figure.savefig)
    write_text(folder / RESULT_FILE, json.dumps(result, indent=2) + "\n")
    return result


def _write_warped(folder: Path, warped: np.ndarray, moving: RegistrationImage, grid: Grid) -> None:
    """The warped image in the numbers of its file: a volume as NIfTI, a 2-D image as PNG or, of more bits, as TIFF."""
    if not grid.is_picture:
        write_volume_map(folder / "warped.nii.gz", warped[0], grid)
        return
    pixels = np.moveaxis(warped[:, 0], 0, -1)
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    is_whole = moving.values.dtype.kind in "iu" and moving.values.min() >= 0
    if is_whole and moving.values.max() <= 255:
        write_png(folder / "warped.png", pixels.round().astype(np.uint8))
        return
    import tifffile

    deep = pixels.round().astype(np.uint16) if is_whole and moving.values.max() <= 65535 else pixels
    write_atomically(folder / "warped.tif", lambda path: tifffile.imwrite(path, deep))


def _view(name: str, done: RegisteredPair, window: Limits | None) -> RegistrationView:
    fixed, moving = done.pair.fixed, done.pair.moving
    greys = [image.expand(to_unit_range(image, window).mean(axis=0)) for image in (fixed, moving)]
    # With the limits of the moving image, so that both are equally bright.
    warped = map_to_unit(done.warped, choose_intensity(moving, window)).mean(axis=0)
    labels = None
    if fixed.labels is not None and moving.labels is not None and done.warped_labels is not None:
        labels = fixed.labels, moving.labels, done.warped_labels
    z, y, x = fixed.grid.spacing_mm
    is_volume = not fixed.grid.is_picture
    return RegistrationView(name, greys[0], greys[1], warped, done.field, done.folds, (z, y, x), labels, is_volume)


def describe_result(
    files: PairFiles, scores: PairScores, settings: Mapping[str, Any], *, notes: tuple[str, ...]
) -> dict[str, Any]:
    """Scores of a pair as one flat object, and those of each label."""
    values: dict[str, Any] = {}
    for metric in METRICS:
        for place, name in enumerate(("before", "after")):
            values[f"{metric}_{name}"] = scores.mean(metric, after=bool(place))
    values |= {
        "unit": scores.unit,
        "correlation_before": scores.correlation_before,
        "correlation_after": scores.correlation_after,
        **asdict(scores.field),
        "feature_seconds": scores.feature_seconds,
        "seconds": scores.seconds,
    }
    labels = [
        {"label": value, **{f"{metric}_before": getattr(before, metric) for metric in METRICS},
         **{f"{metric}_after": getattr(after, metric) for metric in METRICS}}
        for value, (before, after) in scores.labels.items()
    ]  # fmt: skip
    return {
        "name": files.name,
        "fixed": str(files.fixed),
        "moving": str(files.moving),
        "settings_sha256": settings_digest(settings, files),
        "scores": {key: None if value != value else value for key, value in values.items()},
        "labels": labels,
        "notes": list(notes),
    }


def settings_digest(settings: Mapping[str, Any], files: PairFiles) -> str:
    """Digest of all that determines a result: settings, and the files with size and time of their last change."""
    content = json.dumps([settings, stamp_files(files.paths), files.fixed_mask is not None], sort_keys=True)
    return hashlib.sha256(content.encode(errors="backslashreplace")).hexdigest()


def read_result(folder: Path, files: PairFiles, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of an earlier run; None if there is none.

    Raises:
        DataError: It was made with other settings, or of files that have changed since.
    """
    path = folder / RESULT_FILE
    if not path.is_file():
        return None
    result = read_json_object(path, hint="remove the file, and the pair is registered again")
    if not is_current(result, files, settings):
        raise DataError(
            f"{path}: was made with other settings or of files that have changed; choose another -o, or --overwrite"
        )
    return result


def is_current(result: Mapping[str, Any], files: PairFiles, settings: Mapping[str, Any]) -> bool:
    """Whether a result was made with these settings, of the files as they are."""
    return bool(result.get("settings_sha256") == settings_digest(settings, files))


def describe_scores(result: Mapping[str, Any]) -> str:
    """The scores of a pair in a line: Dice before and after or, without labels, correlation; and folding."""
    scores = result["scores"]
    name, key = ("Dice", "dice") if scores["dice_after"] is not None else ("correlation", "correlation")
    values = [scores[f"{key}_{when}"] for when in ("before", "after")]
    before, after = ("-" if value is None else f"{value:.3f}" for value in values)
    return f"{name} {before} before, {after} after; {100 * scores['folding']:.2f} % folded"
