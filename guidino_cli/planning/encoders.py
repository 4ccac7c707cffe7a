"""The U-Nets that nnU-Net plans, and its estimate of their memory: plain, or with a residual encoder.

Constants of nnU-Net 2.8.1: its default planner for the plain encoder and its planners ResEncM, L and XL
(arXiv:2404.09556) for the residual one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

MIN_BATCH = 2
REFERENCE_BATCH = {2: 12, 3: 2}
"""Patches of a batch that fill the reference memory, by the number of axes."""

_MIN_WIDTH = 32
_MAX_WIDTH = {2: 512, 3: 320}


@dataclass(frozen=True)
class EncoderSpec:
    """Properties of a U-Net encoder that the rules depend on.

    Attributes:
        blocks: Convolutions or residual blocks per stage, for the largest number of stages.
        is_residual: Whether blocks are residual: two convolutions and, where a stage begins, the shortcut's map.
        decoder_convs: Convolutions per decoder stage.
        references: By the number of axes, pairs of memory in GB, ascending, and feature map values of one patch of
            which 12 (3-D: 2) fill it.
        patches_to_fit: By the number of axes, the batch that must fit: the patch shrinks until it does.
        covered: Largest share of the training pixels or voxels that a batch may hold.
    """

    blocks: tuple[int, ...]
    is_residual: bool
    decoder_convs: int
    references: dict[int, tuple[tuple[float, float], ...]]
    patches_to_fit: dict[int, int]
    covered: float

    def reference_values(self, budget_gb: float, *, axes: int = 2) -> float:
        """Feature map values of one patch of which 12 (3-D: 2) fill the budget.

        Linear between the memory sizes that nnU-Net has planners for, and proportional to the memory outside of them.
        """
        references = self.references[axes]
        (first_gb, first), (last_gb, last) = references[0], references[-1]
        if budget_gb <= first_gb:
            return first * (budget_gb / first_gb)
        if budget_gb >= last_gb:
            return last * (budget_gb / last_gb)
        gigabytes, values = zip(*references, strict=True)
        return float(np.interp(budget_gb, gigabytes, values))


ENCODERS = {
    "plain": EncoderSpec(
        (2,) * 13,
        is_residual=False,
        decoder_convs=2,
        references={2: ((8, 85e6),), 3: ((8, 560e6),)},
        patches_to_fit={2: MIN_BATCH, 3: MIN_BATCH},
        covered=0.05,
    ),
    "residual": EncoderSpec(
        (1, 3, 4, *(6,) * 10),
        is_residual=True,
        decoder_convs=1,
        references={2: ((8, 135e6), (24, 380e6), (40, 560e6)), 3: ((8, 680e6), (24, 2100e6), (40, 3600e6))},
        patches_to_fit=REFERENCE_BATCH,
        covered=1.0,
    ),
}


def stage_widths(stages: int, *, axes: int = 2) -> tuple[int, ...]:
    """Channels per stage: 32, doubled up to 512 in two dimensions and 320 in three."""
    return tuple(min(_MAX_WIDTH[axes], _MIN_WIDTH * 2**stage) for stage in range(stages))


def count_values(map_sizes: Sequence[Sequence[int]], *, encoder: EncoderSpec, classes: int) -> int:
    """Count the values in all feature maps and the head's output for one patch, nnU-Net's proxy for memory.

    Args:
        map_sizes: Size of the feature maps of each stage, finest first.
        encoder: Encoder of the network.
        classes: K, background included.
    """
    widths = stage_widths(len(map_sizes), axes=len(map_sizes[0]))
    areas = [prod(size) for size in map_sizes]
    total = widths[0] * areas[0] if encoder.is_residual else 0
    for stage, (width, area) in enumerate(zip(widths, areas, strict=True)):
        maps = encoder.blocks[stage]
        if encoder.is_residual:
            # nnU-Net counts a map of the shortcut wherever it shrinks, also where it only averages.
            maps = 2 * maps + (stage > 0)
        total += maps * width * area
    decoder = sum(width * area for width, area in zip(widths[:-1], areas[:-1], strict=True))
    return total + (encoder.decoder_convs + 1) * decoder + classes * areas[0]
