"""nnU-Net's planning rules for images: patch, depth and batch size from median image and memory budget.

Isensee et al., Nature Methods 2021 (supplementary note 2), as nnU-Net 2.8.1 applies them. Pixels count as square,
since guidino trains on the pixel grid and photographs state no spacing.
"""

from dataclasses import dataclass
from math import prod

from guidino_cli.planning.encoders import ENCODERS, EncoderSpec, count_values, stage_widths
from guidino_cli.planning.fitting import FittedNetwork, fit_batch, fit_network
from guidino_cli.planning.topology import Topology, plan_topology

__all__ = [
    "ENCODERS",
    "EncoderSpec",
    "NetworkPlan",
    "count_feature_map_values",
    "pad_to_divisible",
    "plan_for_patch",
    "plan_network",
    "pools_per_axis",
    "stage_widths",
]

_SQUARE = (1.0, 1.0)

Size = tuple[int, int]


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
    voxels = prod(median_hw) * cases
    return _as_plan(
        fit_network(median_hw, _SQUARE, voxels=voxels, classes=classes, encoder=encoder, budget_gb=budget_gb)
    )


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
    topology = _topology(patch, stages)
    voxels = prod(median_hw) * cases
    return _as_plan(fit_batch(topology, voxels=voxels, classes=classes, encoder=encoder, budget_gb=budget_gb))


def pools_per_axis(patch: tuple[float, float]) -> tuple[int, int]:
    """Number of poolings along each axis.

    Both sides are halved while the results are at least 4; then the longer one alone, while it has at least 12.
    """
    height, width = plan_topology(patch, _SQUARE).pools
    return height, width


def pad_to_divisible(patch: tuple[float, float]) -> Size:
    """Enlarge a patch to multiples of the factor by which its poolings divide it."""
    height, width = plan_topology(patch, _SQUARE).patch
    return height, width


def count_feature_map_values(patch: Size, *, encoder: EncoderSpec, classes: int, stages: int | None = None) -> int:
    """Count the values in all feature maps and the head's output for one patch, nnU-Net's proxy for memory."""
    return count_values(_topology(patch, stages).map_sizes(), encoder=encoder, classes=classes)


def _topology(patch: Size, stages: int | None) -> Topology:
    """The topology of a patch that is not enlarged, cut to some stages."""
    topology = plan_topology(patch, _SQUARE)
    return Topology(patch, topology.strides[:stages], topology.kernels[:stages])


def _as_plan(network: FittedNetwork) -> NetworkPlan:
    height, width = network.topology.patch
    return NetworkPlan((height, width), network.widths, network.batch_size, network.values, network.capped_batch)
