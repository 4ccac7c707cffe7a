"""The errors of a case as a picture: an image with its overlay, or the three planes of a volume."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from guidino_cli.data.images import read_image
from guidino_cli.data.volumes.canonical import find_orientation, turn
from guidino_cli.data.volumes.reading import is_volume_file, read_source
from guidino_cli.errors import DataError, UserError
from guidino_cli.evaluation.grids import align_to_truth
from guidino_cli.evaluation.masks import Mask
from guidino_cli.evaluation.scoring import read_aligned_prediction
from guidino_cli.evaluation.summary import EvaluationResult
from guidino_cli.evaluation.types import CaseResult
from guidino_cli.metrics.instances import InstanceComparison
from guidino_cli.plots.instances import instance_errors
from guidino_cli.plots.report import downsample, draw_overlay
from guidino_cli.plots.volumes import VolumeView, view_volume, volume_errors
from guidino_cli.types import Geometry, VolumeSource

_LONGEST_SIDE = 420
"""Pixels of an overlay on the page."""


@dataclass(frozen=True)
class CasePicture:
    """A picture of the errors of a case.

    Attributes:
        image: The picture.
        is_volume: Whether it shows three planes.
        note: What could not be drawn; empty if nothing.
    """

    image: Image.Image
    is_volume: bool
    note: str = ""


def draw_case(case: CaseResult, result: EvaluationResult) -> CasePicture:
    """Draw true positives, false positives, false negatives and wrong classes over the image, where it is known.

    Raises:
        DataError: The truth cannot be read any more.
        UnexpectedValueError: The truth has other values than before.
    """
    if case.scores[0].instances is not None:
        return _draw_instances(case, case.scores[0].instances, result)
    if case.shape is not None and len(case.shape) == 3:
        view, note = view_case(case, result)
        content = BytesIO()
        volume_errors(view).savefig(content)
        return CasePicture(Image.open(content), True, note)
    _, predicted, true = _read_labels(case, result)
    image, path = None, case.pair.truth.image
    if path is not None and not path.is_dir() and not is_volume_file(path):
        image = read_image(path)[0]
        image = image if image.shape[:2] == true.shape else None
    return CasePicture(Image.fromarray(downsample(draw_overlay(image, predicted, true), _LONGEST_SIDE)), False)


def _draw_instances(case: CaseResult, comparison: InstanceComparison, result: EvaluationResult) -> CasePicture:
    """True instances by what became of them, and the predicted ones; of a volume, in the slice with most instances."""
    truth = result.config.truth.read(case.pair.truth.path)
    truth, prediction, _, _ = read_aligned_prediction(case.pair, truth, result.config)
    if truth.instances is None or prediction.instances is None:
        raise ValueError("the readers keep no instances")
    true, predicted, note = truth.instances, prediction.instances, ""
    image, problem = _image_of_instances(case, truth)
    if true.ndim == 3:
        # In the axes of the file, of which the last is usually that between slices.
        counts = [len(np.unique(true[..., number])) for number in range(true.shape[2])]
        number = int(np.argmax(counts))
        true, predicted = true[..., number].T, predicted[..., number].T
        image = None if image is None else image[..., number].T
        note = f"slice {number + 1} of {len(counts)} along the third axis, the one with most instances"
    picture = instance_errors(
        image,
        predicted,
        true,
        statuses={item.number: item.status for item in comparison.true},
        extra=comparison.extra,
    )
    notes = "; ".join(text for text in (note, problem) if text)
    return CasePicture(Image.fromarray(downsample(picture, 2 * _LONGEST_SIDE)), True, notes)


def _image_of_instances(case: CaseResult, truth: Mask) -> tuple[np.ndarray | None, str]:
    """The image in the grid of the truth, in [0, 1], where it is known, and why it could not be drawn."""
    path, shape = case.pair.truth.image, truth.labels.shape
    if path is None:
        return None, ""
    try:
        if len(shape) == 3:
            image = _read_image(VolumeSource(path, case.pair.truth.series), truth)
        elif path.is_dir() or is_volume_file(path):
            return None, ""
        else:
            image = read_image(path)[0].mean(axis=2)
    except (UserError, MemoryError) as error:
        return None, f"drawn without its image: {error or 'not enough memory'}"
    if image.shape != shape:
        return None, ""
    low, high = _grey_limits_of_all(image)
    return ((image - low) / (high - low)).clip(0, 1), ""


def _grey_limits_of_all(image: np.ndarray) -> tuple[float, float]:
    known = image[np.isfinite(image)]
    low, high = np.percentile(known, (0.5, 99.5)) if known.size else (0.0, 1.0)
    return float(low), max(float(high), float(low) + 1e-6)


def _read_labels(case: CaseResult, result: EvaluationResult) -> tuple[Mask, np.ndarray, np.ndarray]:
    """The truth, and predicted and true labels in its grid."""
    truth = result.config.truth.read(case.pair.truth.path)
    truth, prediction, _, _ = read_aligned_prediction(case.pair, truth, result.config)
    return truth, _target_labels(prediction, result), _target_labels(truth, result)


def _target_labels(mask: Mask, result: EvaluationResult) -> np.ndarray:
    """Labels that belong to some target; with one target of merged classes, all of them as one."""
    labels = {label for target in result.config.targets for label in target.labels}
    kept = np.where(np.isin(mask.labels, sorted(labels)), mask.labels, 0)
    return np.minimum(kept, 1) if len(result.config.targets) == 1 else kept


def view_case(case: CaseResult, result: EvaluationResult) -> tuple[VolumeView, str]:
    """The three planes of a volume in the canonical axes of its truth, and a note on what is not in them.

    Raises:
        DataError: The truth cannot be read any more.
        UnexpectedValueError: The truth has other values than before.
    """
    truth, predicted, true = _read_labels(case, result)
    path, note, image = case.pair.truth.image, "", None
    if path is not None and (path.is_dir() or is_volume_file(path)):
        try:
            image = _read_image(VolumeSource(path, case.pair.truth.series), truth)
        except (UserError, MemoryError) as error:
            note = f"drawn without its image: {error or 'not enough memory'}"
    spacing = truth.spacing_mm or case.spacing or (1.0, 1.0, 1.0)
    geometry = Geometry(str(case.pair.truth.path), truth.labels.shape, spacing, "mm", truth.affine)
    orientation = find_orientation(geometry, axes_where_unknown="RAS")
    z, y, x = (spacing[axis] for axis in np.argsort(orientation[:, 0])[::-1])
    turned, labels = turn(true, orientation), turn(predicted, orientation)
    low, high = (0.0, 1.0) if image is None else _grey_limits(image, true)
    view = view_volume(
        case.pair.truth.case,
        None if image is None else turn(image, orientation),
        (z, y, x),
        truth=turned,
        labels=labels,
        # A false positive far from the truth must be seen, too.
        through=(turned > 0) | (labels > 0),
        normalize=lambda values: (values - low) / (high - low),
        oriented=truth.affine is not None,
    )
    return view, note


def _read_image(source: VolumeSource, truth: Mask) -> np.ndarray:
    """The first channel (X, Y, Z) in the truth's grid: the nearest voxel of an image on another one."""
    volume = read_source(source)
    values = volume.values if volume.values.ndim == 3 else volume.values[..., 0]
    image = Mask(values.astype(np.float32), spacing_mm=volume.geometry.spacing, affine=volume.geometry.affine)
    if values.shape != truth.labels.shape and (image.affine is None or truth.affine is None):
        raise DataError(f"{source.path}: is of another size than the mask, and a header says nothing of its place")
    return align_to_truth(image, truth, resample=True)[0].labels


def _grey_limits(image: np.ndarray, foreground: np.ndarray) -> tuple[float, float]:
    """Values that are black and white: three times the range of the foreground with its border, within the volume's.

    Most of a volume may be air or bone, and soft tissue would then have a single grey.
    """
    from scipy.ndimage import binary_dilation

    # A million voxels are enough for percentiles.
    step = max(1, round((image.size / 1e6) ** (1 / 3)))
    sample = image[::step, ::step, ::step]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = (float(end) for end in np.percentile(sample, (0.5, 99.5)))
    part = _box_around(foreground)
    near = image[part][binary_dilation(foreground[part] > 0)]
    near = near[np.isfinite(near)]
    if near.size:
        first, last = (float(end) for end in np.percentile(near, (10, 90)))
        span = last - first
        low, high = max(low, first - span), min(high, last + span)
    return low, max(high, low + 1e-6)


def _box_around(foreground: np.ndarray) -> tuple[slice, ...]:
    """The part of a volume that holds all foreground, and a voxel more on each side; empty without foreground."""
    parts = []
    for axis in range(foreground.ndim):
        others = tuple(other for other in range(foreground.ndim) if other != axis)
        found = np.flatnonzero(foreground.any(axis=others))
        parts.append(slice(max(0, int(found[0]) - 1), int(found[-1]) + 2) if found.size else slice(0))
    return tuple(parts)
