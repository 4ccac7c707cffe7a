"""Register a pair: features of both images, a displacement field, the warped image and labels, and scores."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import numpy as np

from guidino_cli.errors import DataError
from guidino_cli.registration.convexadam import ConvexAdamSettings, find_short_axis, register_features
from guidino_cli.registration.extraction import RegistrationFeatures
from guidino_cli.registration.fields import jacobian_determinants, warp_image, warp_labels
from guidino_cli.registration.inputs import ImagePair, RegistrationImage, fill_missing
from guidino_cli.registration.network import RegistrationNetwork
from guidino_cli.registration.scoring import (
    FieldScore,
    LabelScore,
    correlate_images,
    list_labels,
    score_field,
    score_label,
)


@dataclass(frozen=True)
class PairScores:
    """Scores of a registered pair, and how long it took.

    Attributes:
        labels: Scores before and after of every label; empty without labels.
        unit: Of distances: mm or px.
        correlation_before: Pearson correlation of both images.
        correlation_after: Likewise.
        field: How the displacement field deforms.
        feature_seconds: Wall time of the features.
        seconds: Wall time of features and displacement field.
    """

    labels: dict[int, tuple[LabelScore, LabelScore]]
    unit: str
    correlation_before: float
    correlation_after: float
    field: FieldScore
    feature_seconds: float
    seconds: float

    def mean(self, metric: str, *, after: bool) -> float:
        """Mean of dice, hd95 or asd over the labels; NaN without labels."""
        values = [float(getattr(pair[after], metric)) for pair in self.labels.values()]
        return sum(values) / len(values) if values else nan


@dataclass(frozen=True, eq=False)
class RegisteredPair:
    """A registered pair.

    Attributes:
        pair: The images.
        field: (3, Z, Y, X) in pixels.
        folds: (Z, Y, X) booleans.
        warped: (C, Z, Y, X) float32, the moving image in the numbers of its file.
        warped_labels: (Z, Y, X), or None.
        scores: Of it.
    """

    pair: ImagePair
    field: np.ndarray
    folds: np.ndarray
    warped: np.ndarray
    warped_labels: np.ndarray | None
    scores: PairScores


FieldFinder = Callable[[RegistrationImage, RegistrationImage], tuple[np.ndarray, float]]
"""Finds the field (n, *S) between two images, and says how many seconds of that features took."""


def make_convexadam(extractor: RegistrationFeatures, settings: ConvexAdamSettings) -> FieldFinder:
    """ConvexAdam on features."""

    def find(fixed: RegistrationImage, moving: RegistrationImage) -> tuple[np.ndarray, float]:
        require_cells(fixed, settings)
        began = time.perf_counter()
        first, second = extractor.extract(fixed, moving)
        seconds = time.perf_counter() - began
        return register_features(first, second, fixed.spacing, settings), seconds

    return find


def make_network_finder(extractor: RegistrationFeatures, network: RegistrationNetwork) -> FieldFinder:
    """A trained network on features."""

    def find(fixed: RegistrationImage, moving: RegistrationImage) -> tuple[np.ndarray, float]:
        if len(fixed.axes) != network.shape.dims:
            raise DataError(
                f"{fixed.path}: has {len(fixed.axes)} axes of more than one pixel, the network learned from images of "
                f"{network.shape.dims}"
            )
        began = time.perf_counter()
        first, second = (item[None] for item in extractor.extract(fixed, moving))
        seconds = time.perf_counter() - began
        try:
            field = network.find_field(first, second, fixed.spacing)[0]
        except FloatingPointError as error:
            raise DataError(f"{moving.path}: {error} for it and {fixed.path}; train again") from error
        return np.ascontiguousarray(field.cpu().numpy()), seconds

    return find


def require_cells(image: RegistrationImage, settings: ConvexAdamSettings) -> None:
    """`DataError` if an image has less than two cells of the search along an axis, or fewer than two axes."""
    if len(image.axes) < 2:
        raise DataError(f"{image.path}: has {len(image.axes)} axes of more than one pixel, expected 2 or 3")
    shape = tuple(image.grid.shape[axis] for axis in image.axes)
    axis = find_short_axis(shape, image.spacing, settings)
    if axis is None:
        return
    name = ("z", "y", "x")[image.axes[axis]]
    raise DataError(
        f"{image.path}: has {shape[axis]} pixels along {name}, which is no more than one cell of --grid "
        f"{settings.grid}; choose a smaller --grid"
    )


def register_pair(pair: ImagePair, find_field: FieldFinder) -> RegisteredPair:
    """Find the field of a pair, warp the moving image and its labels, and score them.

    Raises:
        DataError: An image is too small, or shows nothing.
    """
    fixed, moving = pair.fixed, pair.moving
    began = time.perf_counter()
    field, feature_seconds = find_field(fixed, moving)
    seconds = time.perf_counter() - began
    warped = warp_image(fill_missing(moving), field)
    folds = jacobian_determinants(field) <= 0
    labels, warped_labels = {}, None
    if fixed.labels is not None and moving.labels is not None:
        true, before = fixed.squeeze(fixed.labels), moving.squeeze(moving.labels)
        after = warp_labels(before, field)
        labels = {
            value: (
                score_label(before == value, true == value, fixed.spacing),
                score_label(after == value, true == value, fixed.spacing),
            )
            for value in list_labels(true, before)
        }
        warped_labels = moving.expand(after)
    target = fill_missing(fixed).mean(axis=0)
    scores = PairScores(
        labels,
        fixed.grid.geometry.unit,
        correlate_images(target, fill_missing(moving).mean(axis=0)),
        correlate_images(target, warped.mean(axis=0)),
        score_field(field, fixed.spacing),
        feature_seconds,
        seconds,
    )
    return RegisteredPair(
        pair, fixed.expand_field(field), fixed.expand(folds), moving.expand(warped), warped_labels, scores
    )
