"""nnU-Net's planning rules in two dimensions: patch, depth and batch size from median image and memory budget.

Isensee et al., Nature Methods 2021 (supplementary note 2), with the constants of nnU-Net v2 and, for the residual
encoder, of its presets of 2024 (arXiv:2404.09556). Pixels count as square, since photographs state no spacing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, prod

_MIN_WIDTH, _MAX_WIDTH = 32, 512
_MIN_MAP_SIDE = 4
_MAX_PATCH_AREA = 2048**2
_MIN_BATCH = 2
_REFERENCE_BATCH = 12
_REFERENCE_GB = 8.0

Size = tuple[int, int]


@dataclass(frozen=True)
class EncoderSpec:
    """Properties of a U-Net encoder that the rules depend on.

    Attributes:
        blocks: Convolutions or residual blocks per stage, for the largest number of stages.
        is_residual: Whether blocks are residual: two convolutions and, where the width changes, a third feature map.
        decoder_convs: Convolutions per decoder stage.
        values_at_reference: Feature map values of one patch at which a batch of 12 fills 8 GB.
        covered: Largest share of the training pixels that a batch may hold.
    """

    blocks: tuple[int, ...]
    is_residual: bool
    decoder_convs: int
    values_at_reference: float
    covered: float


ENCODERS = {
    "plain": EncoderSpec((2,) * 13, False, 2, 85e6, 0.05),
    "residual": EncoderSpec((1, 3, 4, *(6,) * 10), True, 1, 135e6, 1.0),
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


def plan_network(median_hw: Size, *, cases: int, classes: int, encoder: EncoderSpec, budget_gb: float) -> NetworkPlan:
    """Plan patch, depth and batch size: the largest patch up to the median image of which twelve fit into the budget.

    Args:
        median_hw: Median height and width of the training images in pixels.
        cases: Number of training cases.
        classes: K, background included.
        encoder: Encoder of the network.
        budget_gb: GPU memory that the network may fill, in GB.
    """
    limit = encoder.values_at_reference * budget_gb / _REFERENCE_GB
    square = round(_MAX_PATCH_AREA**0.5)
    patch = pad_to_divisible(_as_size(min(square, side) for side in median_hw))
    while count_feature_map_values(patch, encoder=encoder, classes=classes) > limit and min(patch) > 2 * _MIN_MAP_SIDE:
        patch = _shrink_patch(patch, median_hw)
    return plan_for_patch(patch, median_hw, cases=cases, classes=classes, encoder=encoder, budget_gb=budget_gb)


def plan_for_patch(
    patch: Size,
    median_hw: Size,
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
    fitting = round(encoder.values_at_reference * budget_gb / _REFERENCE_GB / values * _REFERENCE_BATCH)
    covering = round(encoder.covered * prod(median_hw) * cases / prod(patch))
    batch = max(min(fitting, covering), _MIN_BATCH)
    widths = stage_widths(stages)
    return NetworkPlan(patch, widths, batch, values, fitting if max(fitting, _MIN_BATCH) > batch else None)


def pools_per_axis(patch: Size) -> tuple[int, int]:
    """Number of poolings along each axis: a side is halved while the result is at least 4."""

    def count(side: float) -> int:
        times = 0
        while side >= 2 * _MIN_MAP_SIDE:
            side, times = ceil(side / 2), times + 1
        return times

    return count(patch[0]), count(patch[1])


def pad_to_divisible(patch: Size) -> Size:
    """Enlarge a patch to multiples of the factor by which its poolings divide it."""
    return _as_size(ceil(side / 2**times) * 2**times for side, times in zip(patch, pools_per_axis(patch), strict=True))


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
            projects = stage > 0 and widths[stage - 1] != width
            maps = 2 * maps + projects
        total += maps * width * area
    decoder = sum(width * area for width, area in zip(widths[:-1], areas[:-1], strict=True))
    return total + (encoder.decoder_convs + 1) * decoder + classes * areas[0]


def _as_size(sides: Iterable[int]) -> Size:
    height, width = sides
    return height, width


def _shrink_patch(patch: Size, median_hw: Size) -> Size:
    """The next smaller valid patch: the side that is largest relative to the median shrinks.

    The step is the factor that the smaller side must be divisible by; a larger step would skip valid sizes.
    """
    axis = max((0, 1), key=lambda side: (patch[side] / median_hw[side], side))
    tried = list(patch)
    tried[axis] -= 2 ** pools_per_axis(patch)[axis]
    step = 2 ** pools_per_axis(_as_size(tried))[axis]
    sides = list(patch)
    sides[axis] -= step
    return pad_to_divisible(_as_size(sides))
