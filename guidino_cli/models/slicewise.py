"""Two-dimensional networks before volumes: every slice by itself, the maps stacked again."""

from collections.abc import Callable

import torch
from torch import Tensor

from guidino_cli.models.base import Backbone, Guide

# A frozen backbone keeps nothing of a slice but its maps, so that few slices at once bound its memory.
_SLICES_AT_ONCE = 32


def fold_slices(volume: Tensor) -> Tensor:
    """(B, C, Z, H, W) as the batch of its slices, (B Z, C, H, W), those of a volume in a row."""
    return volume.transpose(1, 2).flatten(0, 1)


def stack_slices(maps: Tensor, batch: int) -> Tensor:
    """Maps of slices (B Z, D, h, w) as those of `batch` volumes, (B, D, Z, h, w)."""
    return maps.unflatten(0, (batch, -1)).transpose(1, 2)


def compute_slice_maps(backbone: Backbone, volume: Tensor) -> list[Tensor]:
    """Maps (B, D, Z, h, w) of a backbone that sees each slice of (B, C, Z, H, W) as an image."""
    slices = fold_slices(volume)
    if not backbone.is_frozen:
        return [stack_slices(level, len(volume)) for level in backbone(slices)]
    parts = [backbone(part) for part in slices.split(_SLICES_AT_ONCE)]
    return [stack_slices(torch.cat(levels), len(volume)) for levels in zip(*parts, strict=True)]


def compute_slice_guide(guide: Guide | Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    """Guide maps (B, G, Z, h, w) of the slices of dense maps (B, D, Z, h, w)."""
    return stack_slices(guide(fold_slices(maps)), len(maps))
