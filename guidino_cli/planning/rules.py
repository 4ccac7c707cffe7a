"""nnU-Net's planning rules in two dimensions: patch, depth and batch size from median image and memory budget.

Isensee et al., Nature Methods 2021 (supplementary note 2), as nnU-Net 2.8.1 applies them: its default planner for the
plain encoder and, for the residual one, its planners ResEncM, L and XL (arXiv:2404.09556). Pixels count as square,
since guidino trains on the pixel grid and photographs state no spacing.
"""

from dataclasses import dataclass
from math import ceil, prod

import numpy as np

_MIN_WIDTH, _MAX_WIDTH = 32, 512
_MIN_MAP_SIDE = 4
_MAX_SIDE = 2048
_MIN_BATCH = 2
_REFERENCE_BATCH = 12

Size = tuple[int, int]


@dataclass(frozen=True)
class EncoderSpec:
    """Properties of a U-Net encoder that the rules depend on.

    Attributes:
        blocks: Convolutions or residual blocks per stage, for the largest number of stages.
        is_residual: Whether blocks are residual: two convolutions and, where a stage begins, the shortcut's map.
        decoder_convs: Convolutions per decoder stage.
        references: Pairs of memory in GB, ascending, and feature map values of one patch of which 12 fill it.
        patches_to_fit: The patch shrinks until a batch of so many fits.
        covered: Largest share of the training pixels that a batch may hold.
    """

    blocks: tuple[int, ...]
    is_residual: bool
    decoder_convs: int
    references: tuple[tuple[float, float], ...]
    patches_to_fit: int
    covered: float

    def reference_values(self, budget_gb: float) -> float:
        """Feature map values of one patch of which 12 fill the budget.

        Linear between the memory sizes that nnU-Net has planners for, and proportional to the memory outside of them.
        """
        (first_gb, first), (last_gb, last) = self.references[0], self.references[-1]
        if budget_gb <= first_gb:
            return first * (budget_gb / first_gb)
        if budget_gb >= last_gb:
            return last * (budget_gb / last_gb)
        gigabytes, values = zip(*self.references, strict=True)
        return float(np.interp(budget_gb, gigabytes, values))


ENCODERS = {
    "plain": EncoderSpec((2,) * 13, False, 2, ((8, 85e6),), _MIN_BATCH, 0.05),
    "residual": EncoderSpec(
        (1, 3, 4, *(6,) * 10), True, 1, ((8, 135e6), (24, 380e6), (40, 560e6)), _REFERENCE_BATCH, 1.0
    ),
}


@dataclass(frozen=True)
class NetworkPlan:
    """Patch, depth and batch size chosen by the rules.

    Attributes:
        patch_hw: Height and width of a patch in pixels.
        widths: Channels per stage.
        batch_size: Patches per step.
        values: Feature map values of one patch, to which memory is taken to be proportional.
        capped_batch: Batch size that would fit into memory if the data set were larger; None without a cap.
    """

    patch_hw: Size
    widths: tuple[int, ...]
    batch_size: int
    values: int
    capped_batch: int | None


def plan_network(
    median_hw: tuple[float, float], *, cases: int, classes: int, encoder: EncoderSpec, budget_gb: float
) -> NetworkPlan:
    """Plan patch, depth and batch size: the largest patch up to the median image of which enough fit into the budget.

    Args:
        median_hw: Median height and width of the training images in pixels; halves occur with an even number of them.
        cases: Number of training cases.
        classes: K, background included.
        encoder: Encoder of the network.
        budget_gb: GPU memory that the network may fill, in GB.
    """
    limit = encoder.reference_values(budget_gb) * (_REFERENCE_BATCH / encoder.patches_to_fit)
    height, width = (min(_MAX_SIDE, side) for side in median_hw)
    patch = pad_to_divisible((height, width))
    # nnU-Net has no smallest patch; budgets of 1 GB and more never reach this one.
    while count_feature_map_values(patch, encoder=encoder, classes=classes) > limit and min(patch) > 2 * _MIN_MAP_SIDE:
        patch = _shrink_patch(patch, median_hw)
    return plan_for_patch(patch, median_hw, cases=cases, classes=classes, encoder=encoder, budget_gb=budget_gb)


def plan_for_patch(
    patch: Size,
    median_hw: tuple[float, float],
    *,
    cases: int,
    classes: int,
    encoder: EncoderSpec,
    budget_gb: float,
    stages: int | None = None,
) -> NetworkPlan:
    """Plan depth (or take the given number of stages) and batch size for a patch; arguments as for `plan_network`."""
    stages = 1 + max(pools_per_axis(patch)) if stages is None else stages
    values = count_feature_map_values(patch, encoder=encoder, classes=classes, stages=stages)
    # In nnU-Net's order of operations: another one may round a half to the other side.
    fitting = round(encoder.reference_values(budget_gb) / values * _REFERENCE_BATCH)
    covering = round(prod(median_hw) * cases * encoder.covered / prod(patch))
    batch = max(min(fitting, covering), _MIN_BATCH)
    widths = stage_widths(stages)
    return NetworkPlan(patch, widths, batch, values, fitting if max(fitting, _MIN_BATCH) > batch else None)


def pools_per_axis(patch: tuple[float, float]) -> tuple[int, int]:
    """Number of poolings along each axis.

    Both sides are halved while the results are at least 4; then the longer one alone, while it has at least 12.
    """
    sides, times = list(patch), [0, 0]
    while axes := [axis for axis in (0, 1) if sides[axis] >= 2 * _MIN_MAP_SIDE]:
        if len(axes) == 1 and sides[axes[0]] < 3 * _MIN_MAP_SIDE:
            break
        for axis in axes:
            sides[axis], times[axis] = ceil(sides[axis] / 2), times[axis] + 1
    return times[0], times[1]


def pad_to_divisible(patch: tuple[float, float]) -> Size:
    """Enlarge a patch to multiples of the factor by which its poolings divide it."""
    height, width = (ceil(side / 2**n) * 2**n for side, n in zip(patch, pools_per_axis(patch), strict=True))
    return height, width


def stage_widths(stages: int) -> tuple[int, ...]:
    """Channels per stage: 32, doubled up to 512."""
    return tuple(min(_MAX_WIDTH, _MIN_WIDTH * 2**stage) for stage in range(stages))


def count_feature_map_values(patch: Size, *, encoder: EncoderSpec, classes: int, stages: int | None = None) -> int:
    """Count the values in all feature maps and the head's output for one patch, nnU-Net's proxy for memory."""
    times = pools_per_axis(patch)
    stages = 1 + max(times) if stages is None else stages
    widths = stage_widths(stages)
    areas = [
        prod(side // 2 ** min(stage, most) for side, most in zip(patch, times, strict=True)) for stage in range(stages)
    ]
    total = widths[0] * areas[0] if encoder.is_residual else 0
    for stage, (width, area) in enumerate(zip(widths, areas, strict=True)):
        maps = encoder.blocks[stage]
        if encoder.is_residual:
            # nnU-Net counts a map of the shortcut wherever it shrinks, also where it only averages.
            maps = 2 * maps + (stage > 0)
        total += maps * width * area
    decoder = sum(width * area for width, area in zip(widths[:-1], areas[:-1], strict=True))
    return total + (encoder.decoder_convs + 1) * decoder + classes * areas[0]


def _shrink_patch(patch: Size, median_hw: tuple[float, float]) -> Size:
    """The next smaller valid patch: the side that is largest relative to the median shrinks, the width if equal.

    The step is the factor by which the side would have to be divisible if it were smaller by its present factor:
    steps of the present factor would skip valid sizes.
    """
    axis = max((0, 1), key=lambda side: (patch[side] / median_hw[side], side))
    tried, smaller = list(patch), list(patch)
    tried[axis] -= 2 ** pools_per_axis(patch)[axis]
    smaller[axis] -= 2 ** pools_per_axis((tried[0], tried[1]))[axis]
    return pad_to_divisible((smaller[0], smaller[1]))
