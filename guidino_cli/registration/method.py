"""Register a pair: features of both images, a displacement field, the warped image and labels, and scores."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from torch import Tensor

from guidino_cli.data.volumes.intensities import Limits
from guidino_cli.errors import DataError
from guidino_cli.models.base import Backbone
from guidino_cli.options.registration import FeatureKind
from guidino_cli.registration.convexadam import ConvexAdamSettings, find_short_axis, register_features
from guidino_cli.registration.features import Pca, compute_maps, draw_tokens, enlarge_maps, fit_pca
from guidino_cli.registration.fields import jacobian_determinants, warp_image, warp_labels
from guidino_cli.registration.inputs import ImagePair, RegistrationImage, fill_missing, to_unit_range
from guidino_cli.registration.mind import mind_ssc
from guidino_cli.registration.scoring import (
    FieldScore,
    LabelScore,
    correlate_images,
    list_labels,
    score_field,
    score_label,
)

COMPONENTS_BESIDE_MIND = 0.5
"""Factor of principal components beside MIND; chosen on pairs that no published figure is of."""


class RegistrationFeatures:
    """Makes the features by which images are compared.

    Args:
        kind: MIND-SSC of the grey values, principal components of a backbone's tokens, or both side by side.
        device: On which they are computed.
        backbone: Frozen; None for MIND alone.
        components: Of the PCA.
        pca: Fitted to the data set; None fits one to each pair.
        px: See `features.compute_maps`.
        window: See `inputs.to_unit_range`.
    """

    def __init__(
        self,
        kind: FeatureKind,
        *,
        device: torch.device,
        backbone: Backbone | None = None,
        components: int = 24,
        pca: Pca | None = None,
        px: int | None = None,
        window: Limits | None = None,
    ) -> None:
        if kind != "mind" and backbone is None:
            raise ValueError(f"features {kind} need a backbone")
        self.kind, self.pca = kind, pca
        self._device, self._backbone, self._components = device, backbone, components
        self._px, self._window = px, window

    def extract(self, fixed: RegistrationImage, moving: RegistrationImage) -> tuple[Tensor, Tensor]:
        """Features (C, *S) of both images.

        Raises:
            DataError: The backbone sees the same in all places of both images.
        """
        units = [to_unit_range(image, self._window) for image in (fixed, moving)]
        if self.kind == "mind":
            first, second = (self._mind(unit) for unit in units)
            return first, second
        maps = [self._maps(unit, fixed.spacing) for unit in units]
        try:
            pca = self.pca or fit_pca(draw_tokens(maps), self._components)
        except ValueError as error:
            raise DataError(f"{moving.path}: {error}, in this image and in {fixed.path}") from error
        one, other = (enlarge_maps(pca.project(item), unit.shape[1:]) for item, unit in zip(maps, units, strict=True))
        if self.kind == "dino":
            return one, other
        first, second = (
            put_side_by_side(self._mind(unit), item) for unit, item in zip(units, (one, other), strict=True)
        )
        return first, second

    def draw(self, image: RegistrationImage, limit: int) -> Tensor:
        """Tokens (N, D) of an image, to fit a PCA to those of many."""
        return draw_tokens([self._maps(to_unit_range(image, self._window), image.spacing)], limit=limit).cpu()

    def _mind(self, unit: np.ndarray) -> Tensor:
        return mind_ssc(torch.from_numpy(np.ascontiguousarray(unit.mean(axis=0))).to(self._device))

    def _maps(self, unit: np.ndarray, spacing: tuple[float, ...]) -> Tensor:
        assert self._backbone is not None
        return compute_maps(self._backbone, unit, spacing, px=self._px)


def put_side_by_side(mind: Tensor, components: Tensor) -> Tensor:
    """MIND and principal components as channels of one image: MIND as much as alone, the components half as large.

    ConvexAdam takes the mean over channels, which a factor makes up for.
    """
    total = len(mind) + len(components)
    weighted = ((mind, 1.0), (components, COMPONENTS_BESIDE_MIND))
    return torch.cat([features * (weight * (total / len(features)) ** 0.5) for features, weight in weighted])


@dataclass(frozen=True)
class PairScores:
    """Figures of a registered pair.

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
