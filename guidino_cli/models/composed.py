"""`Model`: a segmenter with an optional backbone and an optional guide, which gates the image or feature maps."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.errors import DataError
from guidino_cli.models.base import Backbone, Guide, Segmenter
from guidino_cli.types import Prediction

# ImageNet statistics: the segmenter sees the image normalised as for the backbone, as in the paper's runs.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)

GetOrCompute = Callable[[Callable[[], list[Tensor]]], list[Tensor]]
"""Returns the dense features of a batch: those of an earlier call, or what the given function computes."""


class Model(nn.Module):
    """A segmenter, optionally with a backbone and a guide beside it.

    Args:
        segmenter: The segmentation network.
        backbone: Computes dense features, once per image.
        guide: Turns the deepest dense feature map into the guide map.
        guide_at: "input" multiplies the normalised image, "bottleneck" the deepest feature map, "features" all of them.
            Of several guide maps, one per class, the maximum gates: what resembles any foreground passes.
        residual: Multiply by 1 + guide instead of the guide.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        backbone: Backbone | None = None,
        guide: Guide | None = None,
        guide_at: Literal["input", "bottleneck", "features"] = "input",
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.backbone = backbone
        self.guide = guide
        self.guide_at = guide_at
        self.residual = residual
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor, *, get_or_compute: GetOrCompute | None = None) -> Prediction:
        """Segment images (B, 1 or 3, H, W) in [0, 1] of any size.

        Args:
            image: The images.
            get_or_compute: Called instead of the backbone, with a function that runs it: a cache of dense features.

        Raises:
            DataError: Neither 1 nor 3 channels.
        """
        dense: list[Tensor] = []
        if self.backbone is not None:
            dense = self.backbone(image) if get_or_compute is None else get_or_compute(partial(self.backbone, image))
        guide = self.guide(dense[-1]) if self.guide is not None else None
        return self.segment(image, dense, guide)

    def segment(self, image: Tensor, dense: list[Tensor], guide: Tensor | None) -> Prediction:
        """The part of `forward` after the guide, for callers that already have the dense features."""
        height, width = image.shape[-2:]
        padded = _pad_to_multiple(self._normalize(image), self.segmenter.stride)
        gate = None if guide is None else self._pad_guide(guide, image, padded)
        if gate is not None and self.guide_at == "input":
            padded = self._apply_gate(padded, gate)
        if self.segmenter.uses_backbone:
            dense = [_extend_to_padding(item, image, padded) for item in dense]
        features = self.segmenter.encode(padded, dense)
        if gate is not None and self.guide_at == "bottleneck":
            features = [*features[:-1], self._apply_gate(features[-1], gate)]
        if gate is not None and self.guide_at == "features":
            features = [self._apply_gate(feature, gate) for feature in features]
        logits = self.segmenter.decode(features, (padded.shape[-2], padded.shape[-1]))
        coarser = [_crop_to_image(level, image, padded) for level in logits[1:]]
        return Prediction([logits[0][..., :height, :width], *coarser], guide)

    def _normalize(self, image: Tensor) -> Tensor:
        if image.shape[1] == 1:
            image = image.expand(-1, 3, -1, -1)
        if image.shape[1] != 3:
            raise DataError(f"images of {image.shape[1]} channels, expected 1 (grey) or 3 (colour)")
        return (image - self.mean) / self.std

    def _pad_guide(self, guide: Tensor, image: Tensor, padded: Tensor) -> Tensor:
        """The gating map (B, 1, h, w), on a grid that covers the padded image exactly."""
        if guide.shape[1] > 1:
            guide = guide.amax(dim=1, keepdim=True)
        if image.shape[-2:] == padded.shape[-2:]:
            return guide
        # The guide covers the image, not its padding: resize it to pixels, pad those as the image was.
        return _pad_to_multiple(_resize_guide(guide, image), self.segmenter.stride)

    def _apply_gate(self, maps: Tensor, guide: Tensor) -> Tensor:
        factor = _resize_guide(guide, maps)
        # 1 is added after the interpolation, so that a guide of 0 changes nothing, not even by rounding.
        return maps * (1 + factor if self.residual else factor)


def _resize_guide(guide: Tensor, like: Tensor) -> Tensor:
    size = like.shape[-2:]
    if guide.shape[-2:] == size:
        return guide
    shrinks = guide.shape[-2] > size[0] or guide.shape[-1] > size[1]
    return F.interpolate(guide, size=size, mode="bilinear", align_corners=False, antialias=shrinks)


def _extend_to_padding(level: Tensor, image: Tensor, padded: Tensor) -> Tensor:
    """A dense feature map on a grid that covers the padded image; its edge is repeated, as the image's is."""
    if image.shape[-2:] == padded.shape[-2:]:
        return level
    down, across = (padded.shape[axis] / image.shape[axis] for axis in (-2, -1))
    cells = [-(-level.shape[axis] * padded.shape[axis] // image.shape[axis]) for axis in (-2, -1)]
    return _resample(level, cells, down, across)


def _crop_to_image(level: Tensor, image: Tensor, padded: Tensor) -> Tensor:
    """Coarser logits of the padded image on a grid that covers the image alone, as the mask of the loss does."""
    if image.shape[-2:] == padded.shape[-2:]:
        return level
    down, across = (image.shape[axis] / padded.shape[axis] for axis in (-2, -1))
    cells = [-(-level.shape[axis] * image.shape[axis] // padded.shape[axis]) for axis in (-2, -1)]
    return _resample(level, cells, down, across)


def _resample(level: Tensor, cells: list[int], down: float, across: float) -> Tensor:
    """Resample to a grid of `cells` from the same corner, over `down` x the height and `across` x the width."""
    place = level.new_tensor([[across, 0, across - 1], [0, down, down - 1]]).expand(len(level), 2, 3)
    grid = F.affine_grid(place, [len(level), 1, *cells], align_corners=False)
    return F.grid_sample(level, grid, padding_mode="border", align_corners=False)


def _pad_to_multiple(image: Tensor, stride: int) -> Tensor:
    """Pad at the bottom and right, repeating the edge, until both sides are multiples of `stride`."""
    height, width = image.shape[-2:]
    pad = (0, -width % stride, 0, -height % stride)
    return F.pad(image, pad, mode="replicate") if any(pad) else image
