"""`Model`: a segmenter with an optional backbone and an optional guide, which gates the image or feature maps."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.errors import DataError
from guidino_cli.models.base import Backbone, Guide, Segmenter
from guidino_cli.models.calibrated_ridge import CalibratedRidgeGuide
from guidino_cli.models.grids import (
    crop,
    crop_to_image,
    extend_to_padding,
    pad_to_multiple,
    resize_guide,
    strides_by_axis,
)
from guidino_cli.models.logit_prior import LogitPrior
from guidino_cli.models.slicewise import compute_slice_guide, compute_slice_maps
from guidino_cli.types import Prediction

# ImageNet statistics: the segmenter sees the image normalised as for the backbone, as in the paper's runs.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_RGB = 3

GetOrCompute = Callable[[Callable[[], list[Tensor]]], list[Tensor]]
"""Returns the dense features of a batch: those of an earlier call, or what the given function computes."""


class Model(nn.Module):
    """A segmenter, optionally with a backbone and a guide.

    Images become volumes where the segmenter has three axes. Backbone and guide then see every slice along the first
    of them as an image, and their maps are stacked: (B, D, Z, h, w).

    Args:
        segmenter: The segmentation network.
        backbone: Computes dense features, once per image.
        guide: Turns the deepest dense feature map into the guide map.
        guide_at: "input" multiplies the normalised image, "bottleneck" the deepest feature map, "features" all of them.
            Of several guide maps, one per class, the maximum gates: what resembles any foreground passes. "logits" and
            "channels" multiply nothing: `prior` says what the maps do, or a segmenter that reads a guide is given them
            and makes logits of them.
        residual: Multiply by 1 + guide instead of the guide.
        prior: Adds the guide's logit to the segmenter's, or shows it to the segmenter.
        reduction: The segmenter sees the image averaged over squares of this many pixels a side, and its logits are
            interpolated; the backbone sees the image as it is.
        in_channels: C of the images; of 3, grey images of one channel are taken too.
        backbone_channels: The three of them that the backbone sees; by default it sees all, which must be 1 or 3.
        is_standardized: Images come as z-scores (mean 0, deviation 1) instead of in [0, 1]; neither the segmenter's
            nor the backbone's input is normalised again.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        backbone: Backbone | None = None,
        guide: Guide | None = None,
        guide_at: Literal["input", "bottleneck", "features", "logits", "channels"] = "input",
        residual: bool = False,
        prior: LogitPrior | None = None,
        reduction: int = 1,
        in_channels: int = _RGB,
        backbone_channels: Sequence[int] | None = None,
        is_standardized: bool = False,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.backbone = backbone
        self.guide = guide
        self.guide_at = guide_at
        self.residual = residual
        self.prior = prior
        self.reduction = reduction
        self.in_channels = in_channels
        self.backbone_channels = None if backbone_channels is None else tuple(backbone_channels)
        self.is_standardized = is_standardized
        if is_standardized and backbone is not None:
            backbone.expect_standardized()
        axes = [1] * segmenter.dims
        mean, std = _statistics(in_channels)
        self.register_buffer("mean", torch.tensor(mean).view(1, in_channels, *axes), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, in_channels, *axes), persistent=False)

    @property
    def has_guide(self) -> bool:
        """Whether predictions have a guide map."""
        return self.guide is not None

    @property
    def stride(self) -> tuple[int, ...]:
        """Multiples to which the sides of an image are padded, along each axis."""
        strides = strides_by_axis(self.segmenter.stride, self.segmenter.dims)
        return tuple(self.reduction * stride for stride in strides)

    def forward(
        self, image: Tensor, *, get_or_compute: GetOrCompute | None = None, folds: Tensor | None = None
    ) -> Prediction:
        """Segment images of any size.

        Args:
            image: (B, C, H, W), or volumes (B, C, Z, H, W) for a segmenter of three axes; in [0, 1], or z-scores.
            get_or_compute: Called instead of the backbone, with a function that runs it: a cache of dense features.
            folds: (B,) of training images, for a guide that is another one for each fold.

        Raises:
            DataError: Another number of axes, or of channels.
        """
        self._require_fitting(image)
        dense: list[Tensor] = []
        if self.backbone is not None:
            compute = partial(self.dense_maps, image)
            dense = compute() if get_or_compute is None else get_or_compute(compute)
        guide = None
        if self.guide is not None:
            guide = self._make_guide(self.guide, dense[-1], folds)
        return self.segment(image, dense, guide)

    def segment(self, image: Tensor, dense: list[Tensor], guide: Tensor | None) -> Prediction:
        """The part of `forward` after the guide, for callers that already have the dense features."""
        evidence = None if self.prior is None or guide is None else self.prior.evidence(guide)
        features, padded = self._encode(image, dense, guide, evidence)
        logits = self.segmenter.decode(features, tuple(side // self.reduction for side in padded.shape[2:]))
        if self.reduction > 1:
            size = tuple(padded.shape[2:])
            logits = [F.interpolate(logits[0], size=size, mode="bilinear", align_corners=False), *logits[1:]]
        coarser = [crop_to_image(level, image, padded) for level in logits[1:]]
        levels = [crop(logits[0], image.shape[2:]), *coarser]
        if self.prior is not None and evidence is not None:
            levels = self.prior.add_to(levels, evidence)
        return Prediction(levels, guide)

    def encode(self, image: Tensor, dense: list[Tensor], guide: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """The part of `segment` before the decoder: its feature maps, and the padded image that they cover."""
        evidence = None if self.prior is None or guide is None else self.prior.evidence(guide)
        return self._encode(image, dense, guide, evidence)

    def _encode(
        self, image: Tensor, dense: list[Tensor], guide: Tensor | None, evidence: Tensor | None
    ) -> tuple[list[Tensor], Tensor]:
        padded = pad_to_multiple(self._normalize(image), self.stride)
        seen = padded if self.reduction == 1 else F.avg_pool2d(padded, self.reduction)
        gates = guide is not None and self.guide_at in {"input", "bottleneck", "features"}
        gate = self._pad_guide(guide, image, padded) if guide is not None and gates else None
        if gate is not None and self.guide_at == "input":
            seen = self._apply_gate(seen, gate)
        if self.prior is not None and evidence is not None and self.prior.channels:
            shown = extend_to_padding(self.prior.shown(dense[-1], evidence), image, padded)
            seen = torch.cat([seen, resize_guide(shown, seen.shape[2:])], dim=1)
        if self.segmenter.uses_backbone:
            dense = [extend_to_padding(item, image, padded) for item in dense]
        if guide is not None and self.segmenter.reads_guide:
            dense = [*(dense if self.segmenter.uses_backbone else []), extend_to_padding(guide, image, padded)]
        features = self.segmenter.encode(seen, dense)
        if gate is not None and self.guide_at == "bottleneck":
            features = [*features[:-1], self._apply_gate(features[-1], gate)]
        if gate is not None and self.guide_at == "features":
            features = [self._apply_gate(feature, gate) for feature in features]
        return features, padded

    def _make_guide(self, guide: Guide, dense: Tensor, folds: Tensor | None) -> Tensor:
        if folds is not None and isinstance(guide, CalibratedRidgeGuide):
            return guide.held_out(dense, folds)
        return guide(dense) if dense.ndim == 4 else compute_slice_guide(guide, dense)

    def _require_fitting(self, image: Tensor) -> None:
        axes = self.segmenter.dims
        if image.ndim != axes + 2:
            expected = "images (B, C, H, W)" if axes == 2 else "volumes (B, C, Z, H, W)"
            raise DataError(f"the network takes {expected}, found {image.ndim} axes: {tuple(image.shape)}")

    def dense_maps(self, image: Tensor) -> list[Tensor]:
        """Maps of the backbone (B, D, h, w), or (B, D, Z, h, w) of the slices of volumes; [] without a backbone."""
        if self.backbone is None:
            return []
        if self.backbone_channels is not None and image.shape[1] == self.in_channels:
            image = image[:, list(self.backbone_channels)]
        return self.backbone(image) if image.ndim == 4 else compute_slice_maps(self.backbone, image)

    def _normalize(self, image: Tensor) -> Tensor:
        """The image as the segmenter sees it; `DataError` for another number of channels."""
        if image.shape[1] == 1 and self.in_channels == _RGB:
            image = image.expand(-1, _RGB, *image.shape[2:])
        if image.shape[1] != self.in_channels:
            expected = "1 (grey) or 3 (colour)" if self.in_channels == _RGB else str(self.in_channels)
            raise DataError(f"images of {image.shape[1]} channels, expected {expected}")
        return image if self.is_standardized else (image - self.mean) / self.std

    def _pad_guide(self, guide: Tensor, image: Tensor, padded: Tensor) -> Tensor:
        """The gating map (B, 1, h, w), on a grid that covers the padded image exactly."""
        if guide.shape[1] > 1:
            guide = guide.amax(dim=1, keepdim=True)
        if image.shape[2:] == padded.shape[2:]:
            return guide
        # The guide covers the image, not its padding: resize it to pixels, pad those as the image was.
        return pad_to_multiple(resize_guide(guide, image.shape[2:]), self.stride)

    def _apply_gate(self, maps: Tensor, guide: Tensor) -> Tensor:
        factor = resize_guide(guide, maps.shape[2:])
        # 1 is added after the interpolation, so that a guide of 0 changes nothing, not even by rounding.
        # In the precision of the maps: a guide of float32 would make all that follows float32 under autocast.
        return maps * (1 + factor if self.residual else factor).to(maps.dtype)


def _statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel: ImageNet's for three, for another number the average of those for each."""
    if channels == _RGB:
        return _MEAN, _STD
    return (sum(_MEAN) / _RGB,) * channels, (sum(_STD) / _RGB,) * channels
