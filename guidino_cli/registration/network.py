"""A network that predicts displacement fields: VoxelMorph's U-Net, as MONAI has it, and its loss.

Balakrishnan et al. (2019), VoxelMorph: A Learning Framework for Deformable Medical Image Registration. The input may be
grey values, as there, or maps of features, as in the DINOv3 benchmark (PCA of frozen tokens).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from guidino_cli.models.layers import import_optional
from guidino_cli.options.registration import NetworkLoss
from guidino_cli.registration.convexadam import FEATURE_WEIGHT, CellGrid
from guidino_cli.registration.fields import (
    average_cells,
    crop_to,
    integrate_velocity,
    measure_roughness,
    pad_to_multiples,
    per_axis,
    resize_linear,
    sample,
)

_DEPTH = 8
"""Sides that the U-Net takes are multiples of this: it halves them three times."""
_FIRST_FLOW = 1e-5
"""Standard deviation of the weights of the last layer at first, so that training begins without displacement."""
_WINDOW = 9
"""Side of the window of local correlation, in cells."""


@dataclass(frozen=True)
class NetworkShape:
    """What a network takes and how it makes a field.

    Attributes:
        dims: Axes of the images: 2 or 3.
        channels: Of the features of one image.
        cell: Side of its pixels, in pixels of the image's finest axis: 2 makes fields at half the resolution.
        integration: Squarings by which a velocity becomes a field that is invertible; 0 to predict the field itself.
    """

    dims: int
    channels: int
    cell: int = 1
    integration: int = 7


class RegistrationNetwork(nn.Module):
    """VoxelMorph.

    Args:
        shape: Of input and output.

    Raises:
        DependencyError: MONAI is not installed.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        nets = import_optional("monai.networks.nets", extra="monai", needed_by="a network that learns to register")
        self.shape = shape
        self.unet = nets.VoxelMorphUNet(
            spatial_dims=shape.dims,
            in_channels=2 * shape.channels,
            unet_out_channels=32,
            channels=(16, 32, 32, 32, 32, 32),
            final_conv_channels=(16, 16),
        )
        flow = [layer for layer in self.unet.modules() if isinstance(layer, nn.Conv2d | nn.Conv3d)][-1]
        nn.init.normal_(flow.weight, std=_FIRST_FLOW)
        if flow.bias is not None:
            nn.init.zeros_(flow.bias)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """A field (B, n, *S) in cells between features (B, C, *S) of cells; see `fields`.

        Raises:
            FloatingPointError: It is not finite.
        """
        size = fixed.shape[2:]
        pair = pad_to_multiples(torch.cat([moving, fixed], dim=1), [_DEPTH] * len(size))
        flow = self.unet(pair)
        # torch.nn.functional.grid_sample reads beyond its memory where a place is NaN.
        if not bool(flow.isfinite().all()):
            raise FloatingPointError("the network predicts displacements that are not finite")
        field = integrate_velocity(flow, self.shape.integration) if self.shape.integration else flow
        return crop_to(field, size)

    def average(self, features: Tensor, spacing: Sequence[float]) -> tuple[Tensor, CellGrid]:
        """Features (B, C, *S) of pixels as those of the network's cells."""
        grid = CellGrid.of(spacing, self.shape.cell)
        return average_cells(pad_to_multiples(features, grid.pixels), grid.pixels), grid

    @torch.no_grad()
    def find_field(self, fixed: Tensor, moving: Tensor, spacing: Sequence[float]) -> Tensor:
        """A field (1, n, *S) in pixels between features (1, C, *S) of pixels."""
        (first, grid), (second, _) = (self.average(features, spacing) for features in (fixed, moving))
        field = self(first, second)
        whole = [size * step for size, step in zip(first.shape[2:], grid.pixels, strict=True)]
        enlarged = resize_linear(field, whole) * per_axis(grid.pixels, field)
        return crop_to(enlarged, fixed.shape[2:])


Dissimilarity = Callable[[Tensor, Tensor], Tensor]
"""Of a warped and a fixed image (B, C, *S): a number, the lower the better."""


def make_dissimilarity(kind: NetworkLoss, dims: int) -> Dissimilarity:
    """Local correlation of grey values as VoxelMorph measures it, or the difference of features as ConvexAdam does."""
    if kind == "features":
        return lambda warped, fixed: FEATURE_WEIGHT * (warped - fixed).square().mean()
    losses = import_optional("monai.losses", extra="monai", needed_by="--loss lncc")
    correlation: Any = losses.LocalNormalizedCrossCorrelationLoss(
        spatial_dims=dims, kernel_size=_WINDOW, kernel_type="rectangular"
    )
    return lambda warped, fixed: correlation(warped, fixed)


@dataclass(frozen=True)
class LossParts:
    """The loss of a step and what it is made of.

    Attributes:
        total: What is minimised.
        dissimilarity: Of the warped and the fixed image.
        roughness: Of the field, without its weight.
    """

    total: Tensor
    dissimilarity: Tensor
    roughness: Tensor


def compute_loss(
    field: Tensor,
    fixed: Tensor,
    moving: Tensor,
    dissimilarity: Dissimilarity,
    *,
    sides: Sequence[float],
    smoothness: float,
) -> LossParts:
    """The loss of a field in cells.

    Args:
        field: (B, n, *S).
        fixed: (B, C, *S), what is compared, in cells.
        moving: Of the same shape.
        dissimilarity: Compares both.
        sides: Of a cell, relative to its shortest one.
        smoothness: Weight of the squared slopes of the field.
    """
    difference = dissimilarity(sample(moving, field), fixed)
    roughness = measure_roughness(field, sides)
    return LossParts(difference + smoothness * roughness, difference, roughness)
