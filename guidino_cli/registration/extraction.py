"""Features by which the two images of a registration are compared."""

from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from guidino_cli.data.volumes.intensities import Limits
from guidino_cli.errors import DataError
from guidino_cli.models.base import Backbone
from guidino_cli.options.registration import NetworkInput
from guidino_cli.registration.features import Pca, TokenMaps, draw_tokens, enlarge_maps, fit_pca
from guidino_cli.registration.inputs import RegistrationImage, to_unit_range
from guidino_cli.registration.mind import mind_ssc

COMPONENTS_BESIDE_MIND = 0.5
"""Factor of principal components beside MIND; chosen on pairs of which no score is published."""


@dataclass(frozen=True, eq=False)
class CompactFeatures:
    """What features of an image are computed from in little time, in little memory.

    Attributes:
        unit: (C, *S) float32 grey values or colours in [0, 1].
        spacing: Size of a pixel along each axis.
        components: (Q, *s) principal components on the grid of the tokens; None for features without a backbone.
    """

    unit: np.ndarray
    spacing: tuple[float, ...]
    components: Tensor | None = None

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return self.unit.nbytes + (0 if self.components is None else self.components.nbytes)


class RegistrationFeatures:
    """Makes the features by which images are compared.

    Args:
        kind: MIND-SSC of the grey values, principal components of a backbone's tokens, or both side by side; or the
            grey values.
        device: On which they are computed.
        backbone: Frozen; None for features without one.
        components: Of the PCA.
        px: See `features.compute_maps`.
        window: See `inputs.to_unit_range`.

    Attributes:
        kind: As given.
        pca: Fitted to the data set, see `with_pca`; None fits one to each pair.
    """

    def __init__(
        self,
        kind: NetworkInput,
        *,
        device: torch.device,
        backbone: Backbone | None = None,
        components: int = 24,
        px: int | None = None,
        window: Limits | None = None,
    ) -> None:
        if kind in {"dino", "both"} and backbone is None:
            raise ValueError(f"features {kind} need a backbone")
        self.kind = kind
        self.pca: Pca | None = None
        self._device, self._components, self._window = device, components, window
        self._tokens = None if backbone is None else TokenMaps(backbone, px=px)

    def with_pca(self, pca: Pca) -> "RegistrationFeatures":
        """The same with a PCA that was fitted to the data set; tokens that are held are shared."""
        other = copy(self)
        other.pca = pca.to(self._device)
        return other

    def extract(self, fixed: RegistrationImage, moving: RegistrationImage) -> tuple[Tensor, Tensor]:
        """Features (C, *S) of both images.

        Raises:
            DataError: The backbone sees the same in all places of both images.
        """
        if self.pca is not None or self._tokens is None:
            first, second = (self.expand(self.compress(image)) for image in (fixed, moving))
            return first, second
        units = [to_unit_range(image, self._window) for image in (fixed, moving)]
        maps = [self._tokens.compute(unit, fixed.spacing) for unit in units]
        try:
            pca = fit_pca(draw_tokens(maps), self._components)
        except ValueError as error:
            raise DataError(f"{moving.path}: {error}, in this image and in {fixed.path}") from error
        first, second = (
            self.expand(CompactFeatures(unit, fixed.spacing, pca.project(item)))
            for unit, item in zip(units, maps, strict=True)
        )
        return first, second

    def compress(self, image: RegistrationImage) -> CompactFeatures:
        """What the features of one image are computed from; a backbone needs a PCA that was fitted before."""
        unit = to_unit_range(image, self._window)
        if self._tokens is None:
            return CompactFeatures(unit, image.spacing)
        if self.pca is None:
            raise ValueError("tokens of a single image need a PCA")
        return CompactFeatures(unit, image.spacing, self.pca.project(self._tokens.compute(unit, image.spacing)))

    def expand(self, compact: CompactFeatures) -> Tensor:
        """Features (C, *S) of an image."""
        grey = self.grey(compact)
        if self.kind == "image":
            return grey
        if self.kind == "mind":
            return mind_ssc(grey[0])
        assert compact.components is not None
        components = enlarge_maps(compact.components, compact.unit.shape[1:])
        return components if self.kind == "dino" else put_side_by_side(mind_ssc(grey[0]), components)

    def grey(self, compact: CompactFeatures) -> Tensor:
        """Grey values (1, *S) in [0, 1]."""
        return torch.from_numpy(np.ascontiguousarray(compact.unit.mean(axis=0)))[None].to(self._device)

    def draw(self, image: RegistrationImage, limit: int) -> Tensor:
        """Tokens (N, D) of an image, to fit a PCA to those of many."""
        if self._tokens is None:
            raise ValueError("features without a backbone have no tokens")
        maps = self._tokens.compute(to_unit_range(image, self._window), image.spacing)
        return draw_tokens([maps], limit=limit).cpu()


def put_side_by_side(mind: Tensor, components: Tensor) -> Tensor:
    """MIND and principal components as channels of one image: MIND as much as alone, the components half as large.

    ConvexAdam takes the mean over channels, which a factor makes up for.
    """
    total = len(mind) + len(components)
    weighted = ((mind, 1.0), (components, COMPONENTS_BESIDE_MIND))
    return torch.cat([features * (weight * (total / len(features)) ** 0.5) for features, weight in weighted])
