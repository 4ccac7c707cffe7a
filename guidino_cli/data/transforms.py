"""Transforms of augmentation with given parameters, for a batch on its device: geometry and intensities."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# Control points a side of an elastic deformation: a smoothness of 7 of 256 pixels, as in the GuiDINO authors' list.
_CONTROL_POINTS = 18


def warp(
    image: Tensor, mask: Tensor, inverse_affine: Tensor, *, elastic: Sequence[float], seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Move the pixels of image and mask in one resampling; outside the image both are 0.

    Args:
        image: (B, C, H, W), H = W: a non-square sample would be sheared by a rotation in [-1, 1] coordinates.
        mask: (B, H, W) class indices; gets no other new value.
        inverse_affine: (B, 2, 3) from output to input coordinates in [-1, 1].
        elastic: Standard deviation of smooth random displacements as a share of the side, for each sample.
        seeds: Random seed of the displacements, for each sample.
    """
    grid = F.affine_grid(inverse_affine, [len(image), 1, *image.shape[-2:]], align_corners=False)
    if any(elastic):
        grid = grid + _elastic_displacement(image, elastic, seeds)
    pixels = F.grid_sample(image, grid, mode="bilinear", align_corners=False)
    labels = F.grid_sample(mask[:, None].to(image.dtype), grid, mode="nearest", align_corners=False)
    return pixels, labels[:, 0].round().to(mask.dtype)


def _elastic_displacement(image: Tensor, elastic: Sequence[float], seeds: Sequence[int]) -> Tensor:
    """Smooth random displacements (B, H, W, 2) in [-1, 1] coordinates: cubic between random control points."""
    size = (2, _CONTROL_POINTS, _CONTROL_POINTS)
    # Drawn on the CPU, so that the deformation is the same on every device.
    points = torch.stack(
        [2 * share * torch.randn(size, generator=_seeded(seed)) for share, seed in zip(elastic, seeds, strict=True)]
    )
    moved = to_device(points.to(image.dtype), image.device)
    smooth = F.interpolate(moved, size=image.shape[-2:], mode="bicubic", align_corners=False)
    return smooth.permute(0, 2, 3, 1)


def add_noise(image: Tensor, deviations: Tensor, seeds: Sequence[int]) -> Tensor:
    """Add Gaussian noise.

    Args:
        image: (B, C, H, W).
        deviations: (B, 1) standard deviation for each sample.
        seeds: Random seed for each sample. Drawn on the CPU, so that the noise is the same on every device.
    """
    noise = torch.stack([torch.randn(image.shape[1:], generator=_seeded(seed)) for seed in seeds])
    return image + deviations[:, :, None, None] * to_device(noise, image.device).to(image.dtype)


def blur(image: Tensor, sigmas: Tensor) -> Tensor:
    """Blur every channel by its own separable Gaussian, truncated at three standard deviations.

    Args:
        image: (B, C, H, W).
        sigmas: (B, C, 2) on the CPU: standard deviations in pixels along height and width; 0 for none.
    """
    groups = image.shape[0] * image.shape[1]
    radius = math.ceil(3 * sigmas.max().item())
    sigma = to_device(sigmas.to(image.dtype).view(groups, 2), image.device)
    x = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    # A tiny deviation leaves weight at the centre alone.
    spread = torch.exp(-(x**2) / (2 * sigma[..., None].clamp(min=1e-3) ** 2)) * (
        x.abs() <= (3 * sigma[..., None]).ceil()
    )
    kernels = (spread / spread.sum(dim=-1, keepdim=True))[:, :, None, None, :]
    padded = F.pad(image, (radius,) * 4, mode="replicate").flatten(0, 1)[None]
    along_width = F.conv2d(padded, kernels[:, 1], groups=groups)
    return F.conv2d(along_width, kernels[:, 0].transpose(2, 3), groups=groups).view_as(image)


def scale_brightness(image: Tensor, factors: Tensor) -> Tensor:
    """Multiply the channels of (B, C, H, W) by (B, C) factors."""
    return image * factors[:, :, None, None]


def scale_contrast(image: Tensor, factors: Tensor, *, keep_range: Tensor) -> Tensor:
    """Multiply the distance from the channel's mean.

    Args:
        image: (B, C, H, W).
        factors: (B, C).
        keep_range: (B, 1) booleans: whether a channel is clipped to the range that it had.
    """
    mean = image.mean(dim=(2, 3), keepdim=True)
    changed = mean + (image - mean) * factors[:, :, None, None]
    low, high = image.amin(dim=(2, 3), keepdim=True), image.amax(dim=(2, 3), keepdim=True)
    return torch.where(keep_range[:, :, None, None], changed.clamp(low, high), changed)


def simulate_low_resolution(
    image: Tensor, shares: Sequence[Sequence[float]], *, modes: Sequence[Literal["bilinear", "bicubic"]]
) -> Tensor:
    """Downsample every channel by nearest neighbours and upsample it again.

    Args:
        image: (B, C, H, W).
        shares: Downsampled side as a share of the side, for each channel of each sample; 1 leaves it alone.
        modes: Interpolation of the upsampling, for each sample.
    """
    size = image.shape[-2:]
    coarse = image.clone()
    for row, (channels, mode) in enumerate(zip(shares, modes, strict=True)):
        for channel, share in enumerate(channels):
            small = [max(1, round(side * share)) for side in size]
            shrunk = F.interpolate(image[row : row + 1, channel : channel + 1], size=small, mode="nearest-exact")
            coarse[row, channel] = F.interpolate(shrunk, size=size, mode=mode, align_corners=False)[0, 0]
    return coarse


def apply_gamma(image: Tensor, exponents: Tensor, *, inverted: bool) -> Tensor:
    """Raise every channel, stretched to [0, 1], to a power; then restore its mean and its standard deviation.

    Args:
        image: (B, C, H, W).
        exponents: (B, C).
        inverted: Do it to the negative.
    """
    sign = -1 if inverted else 1
    curved = _stretched_power(sign * image, exponents[:, :, None, None], dims=(2, 3))
    mean, deviation = _moments(sign * image)
    mean_now, deviation_now = _moments(curved)
    return sign * ((curved - mean_now) * (deviation / deviation_now.clamp(min=1e-7)) + mean)


def apply_gamma_to_all_channels(image: Tensor, exponents: Tensor) -> Tensor:
    """Raise (B, C, H, W), stretched to [0, 1] over all channels together, to a power.

    Args:
        image: Clipped to [0, 1] first.
        exponents: (B, 1); a negative one does it to the inverted image.
    """
    inverted = (exponents < 0).to(image.dtype)[:, :, None, None]
    curved = _stretched_power(
        (image.clamp(0, 1) - inverted).abs(), exponents.abs()[:, :, None, None], dims=(1, 2, 3), smallest_span=1e-6
    )
    return (curved - inverted).abs()


def _stretched_power(image: Tensor, exponents: Tensor, *, dims: tuple[int, ...], smallest_span: float = 1e-7) -> Tensor:
    """Stretch to [0, 1] over the dimensions, raise to a power, and undo the stretching."""
    low, high = image.amin(dim=dims, keepdim=True), image.amax(dim=dims, keepdim=True)
    span = (high - low).clamp(min=smallest_span)
    power: Tensor = ((image - low) / span) ** exponents * span + low
    return power


def _moments(image: Tensor) -> tuple[Tensor, Tensor]:
    return image.mean(dim=(2, 3), keepdim=True), image.std(dim=(2, 3), keepdim=True, correction=0)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device without waiting for its queue: only pinned memory is copied asynchronously."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
