"""Training loss: weighted pixel terms over all levels of logits (deep supervision), plus weighted guide terms."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.data.cases import IGNORED
from guidino_cli.device_transfer import to_device
from guidino_cli.errors import ConfigError, unknown_name
from guidino_cli.losses import GUIDE_LOSSES, PIXEL_LOSSES
from guidino_cli.types import Prediction

_Term = Callable[..., Tensor]


class SegmentationLoss:
    """Weighted sum of loss terms, such as `{"dice": 1, "cross_entropy": 1, "guide": 0.1}`.

    Args:
        weights: Weight of each term; a term of weight 0 is not computed.
        has_guide: Whether predictions have a guide.
        class_weights: Weights > 0 of the classes in the cross-entropy, background first; None weighs all the same.
        level_weights: Relative weights of the levels of logits, finest first; by default 1, 1/2, 1/4, ...
        has_ignored: Whether masks may hold `IGNORED`, whose pixels do not count.

    Raises:
        ConfigError: Unknown term, no pixel term, or a guide term without a guide.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        has_guide: bool,
        class_weights: Sequence[float] | None = None,
        level_weights: Sequence[float] | None = None,
        has_ignored: bool = False,
    ) -> None:
        known = PIXEL_LOSSES | GUIDE_LOSSES
        for name in weights:
            if name not in known:
                raise ConfigError("train.loss: " + unknown_name("term", name, known))
        active = {name: weight for name, weight in weights.items() if weight > 0}
        self._level_weights, self._has_ignored = level_weights, has_ignored
        self.pixel_terms = {
            name: (weight, _import_term(known[name])) for name, weight in active.items() if name in PIXEL_LOSSES
        }
        if class_weights is not None and "cross_entropy" in self.pixel_terms:
            factor, term = self.pixel_terms["cross_entropy"]
            self.pixel_terms["cross_entropy"] = factor, _WeightedByClass(term, class_weights)
        self.guide_terms = {
            name: (weight, _import_term(known[name])) for name, weight in active.items() if name in GUIDE_LOSSES
        }
        if not self.pixel_terms:
            raise ConfigError(f"train.loss has no term for the segmentation; add one of {', '.join(PIXEL_LOSSES)}")
        if self.guide_terms and not has_guide:
            names = ", ".join(self.guide_terms)
            raise ConfigError(f"train.loss has '{names}', but the model has no guide; remove it or set model.guide")

    def __call__(self, prediction: Prediction, mask: Tensor) -> dict[str, Tensor]:
        """Every weighted term by name, and their sum as "loss"; `mask` is (B, H, W) or (B, Z, H, W) class indices."""
        masks = [_resize_mask(mask, logits) for logits in prediction.logits]
        terms = {name: weight * self._over_levels(term, prediction.logits, masks)
                 for name, (weight, term) in self.pixel_terms.items()}  # fmt: skip
        if prediction.guide is not None and self.guide_terms:
            target, share = self._guide_target(mask, prediction.guide)
            for name, (weight, term) in self.guide_terms.items():
                terms[name] = weight * term(prediction.guide, target, valid=share)
        terms["loss"] = torch.stack(list(terms.values())).sum()
        return terms

    def _over_levels(self, term: _Term, levels: list[Tensor], masks: list[Tensor]) -> Tensor:
        """Deep supervision: weights normalised to 1, the same with and without a guide."""
        weights = (self._level_weights or [0.5**level for level in range(len(levels))])[: len(levels)]
        total = torch.zeros((), device=levels[0].device)
        for weight, logits, mask in zip(weights, levels, masks, strict=True):
            total = total + weight / sum(weights) * self._apply(term, logits, mask)
        return total

    def _guide_target(self, mask: Tensor, guide: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self._has_ignored:
            return guide_target(mask, guide), None
        return guide_target_of_counted(mask, guide)

    def _apply(self, term: _Term, logits: Tensor, mask: Tensor) -> Tensor:
        if not self._has_ignored:
            return term(logits, mask)
        valid = mask != IGNORED
        return term(logits, mask * valid, valid=valid)


class _WeightedByClass:
    """A pixel term that takes weights of the classes, which are copied to a device once."""

    def __init__(self, term: Callable[..., Tensor], weights: Sequence[float]) -> None:
        self._term, self._weights = term, torch.tensor(weights, dtype=torch.float32)

    def __call__(self, logits: Tensor, mask: Tensor, **valid: Tensor) -> Tensor:
        self._weights = self._weights.to(logits.device)
        return self._term(logits, mask, weight=self._weights, **valid)


def guide_target(mask: Tensor, guide: Tensor) -> Tensor:
    """Fraction of foreground in each cell of the guide's grid: (B, H, W) -> (B, G, h, w).

    One map covers all foreground; with G > 1 maps, map g covers class g + 1. Averaging over the cell keeps small and
    thin objects, which taking one pixel per cell would lose or enlarge. A pixel in two cells counts in both, by its
    area in each, so grids that do not divide the image, or are finer than it, have exact targets, too. The guide of a
    volume has a map for every slice: (B, Z, H, W) -> (B, G, Z, h, w).
    """
    maps = guide.shape[1]
    if maps == 1:
        foreground = (mask > 0).float()[:, None]
    else:
        foreground = torch.stack([(mask == g + 1).float() for g in range(maps)], dim=1)
    rows, columns = (_area_fractions(guide.shape[axis], mask.shape[axis], mask.device) for axis in (-2, -1))
    return rows @ foreground @ columns.T


def guide_target_of_counted(mask: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
    """`guide_target` of the pixels that are not `IGNORED`, and their share of each cell, (B, 1, h, w).

    Where no pixel of a cell counts, both are 0.
    """
    valid = mask != IGNORED
    # One map of a mask of ones is the share.
    share = guide_target(valid.long(), guide[:, :1])
    return guide_target(mask * valid, guide) / share.clamp(min=_MIN_SHARE), share


_MIN_SHARE = 1e-6
"""Far below the share of one pixel, to divide 0 by."""


@lru_cache(maxsize=64)
def _area_fractions(cells: int, pixels: int, device: torch.device) -> Tensor:
    """(cells, pixels): fraction of each cell of a line that lies in each pixel; every row sums to 1.

    Cached: every training step needs the same two.
    """
    edges = torch.arange(cells + 1, dtype=torch.float64) * pixels / cells
    starts = torch.arange(pixels, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], starts + 1) - torch.maximum(edges[:-1, None], starts)
    return to_device((overlap.clamp(min=0) * cells / pixels).float(), device)


def _resize_mask(mask: Tensor, logits: Tensor) -> Tensor:
    if mask.shape[1:] == logits.shape[2:]:
        return mask
    # "nearest-exact" takes the centre of each cell; "nearest" would take its top-left corner and shift the mask.
    return F.interpolate(mask[:, None].float(), size=logits.shape[2:], mode="nearest-exact")[:, 0].long()


def _import_term(path: str) -> _Term:
    module, name = path.split(":")
    term: _Term = getattr(importlib.import_module(module), name)
    return term
