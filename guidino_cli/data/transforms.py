"""Transforms of augmentation with given parameters, for a batch on its device: geometry and intensities."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.device_transfer import to_device

# Control points a side of an elastic deformation: a smoothness of 7 of 256 pixels, as in the GuiDINO authors' list.
_CONTROL_POINTS = 18


def warp(
    image: Tensor, mask: Tensor, inverse_affine: Tensor, *, elastic: Sequence[float], seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Move the pixels of image and mask in one resampling; outside the image both are 0.

    Args:
        image: (B, C, H, W), H = W: a non-square sample would be sheared by a rotation in [-1, 1] coordinates. Or
            (B, C, D, H, W), whose matrices take the sides into account.
        mask: (B, H, W) or (B, D, H, W) class indices; gets no other new value.
        inverse_affine: (B, 2, 3) or (B, 3, 4) from output to input coordinates in [-1, 1].
        elastic: Standard deviation of smooth random displacements as a share of the side, for each sample; images only.
        seeds: Random seed of the displacements, for each sample.
    """
    grid = F.affine_grid(inverse_affine, [len(image), 1, *image.shape[2:]], align_corners=False)
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


def draw_noise(shape: Sequence[int], seed: int) -> Tensor:
    """Standard normal numbers, drawn on the CPU, so that they are the same on every device."""
    return torch.randn(tuple(shape), generator=_seeded(seed))


def add_noise(image: Tensor, deviations: Tensor, noise: Sequence[Tensor]) -> Tensor:
    """Add Gaussian noise.

    Args:
        image: (B, C, ...).
        deviations: (B, 1) standard deviation for each sample.
        noise: See `draw_noise`; for each sample.
    """
    scaled = _over_space(deviations, image) * to_device(torch.stack(list(noise)), image.device).to(image.dtype)
    return image + scaled


def blur(image: Tensor, sigmas: Tensor) -> Tensor:
    """Blur every channel by its own separable Gaussian, truncated at three standard deviations.

    Args:
        image: (B, C, H, W) or (B, C, D, H, W).
        sigmas: (B, C, axes) on the CPU: standard deviations in pixels along the axes of the image; 0 for none.
    """
    axes = image.ndim - 2
    groups = image.shape[0] * image.shape[1]
    radius = math.ceil(3 * sigmas.max().item())
    sigma = to_device(sigmas.to(image.dtype).view(groups, axes), image.device)
    x = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    # A tiny deviation leaves weight at the centre alone.
    spread = torch.exp(-(x**2) / (2 * sigma[..., None].clamp(min=1e-3) ** 2)) * (
        x.abs() <= (3 * sigma[..., None]).ceil()
    )
    kernels = spread / spread.sum(dim=-1, keepdim=True)
    convolve = F.conv2d if axes == 2 else F.conv3d
    blurred = F.pad(image, (radius,) * (2 * axes), mode="replicate").flatten(0, 1)[None]
    for axis in reversed(range(axes)):
        shape = [groups, 1] + [1] * axes
        shape[2 + axis] = len(x)
        blurred = convolve(blurred, kernels[:, axis].reshape(shape), groups=groups)
    return blurred.view_as(image)


def scale_brightness(image: Tensor, factors: Tensor) -> Tensor:
    """Multiply the channels of (B, C, ...) by (B, C) factors."""
    return image * _over_space(factors, image)


def scale_contrast(image: Tensor, factors: Tensor, *, keep_range: Tensor) -> Tensor:
    """Multiply the distance from the channel's mean.

    Args:
        image: (B, C, ...).
        factors: (B, C).
        keep_range: (B, 1) booleans: whether a channel is clipped to the range that it had.
    """
    space = _space(image)
    mean = image.mean(dim=space, keepdim=True)
    changed = mean + (image - mean) * _over_space(factors, image)
    low, high = image.amin(dim=space, keepdim=True), image.amax(dim=space, keepdim=True)
    return torch.where(_over_space(keep_range, image), changed.clamp(low, high), changed)


def simulate_low_resolution(
    image: Tensor,
    shares: Sequence[Sequence[float]],
    *,
    modes: Sequence[Literal["bilinear", "bicubic"]],
    keep_slices: Sequence[bool] | None = None,
) -> Tensor:
    """Downsample every channel by nearest neighbours and upsample it again.

    Args:
        image: (B, C, H, W) or (B, C, D, H, W).
        shares: Downsampled side as a share of the side, for each channel of each sample; 1 leaves it alone.
        modes: Interpolation of the upsampling, for each sample; that of volumes is trilinear.
        keep_slices: Whether the number of slices D stays, for each sample; None for no.
    """
    size = image.shape[2:]
    coarse = image.clone()
    for row, (channels, mode) in enumerate(zip(shares, modes, strict=True)):
        kept = 1 if keep_slices is not None and keep_slices[row] else 0
        for channel, share in enumerate(channels):
            small = [*size[:kept], *(max(1, round(side * share)) for side in size[kept:])]
            shrunk = F.interpolate(image[row : row + 1, channel : channel + 1], size=small, mode="nearest-exact")
            how = mode if len(size) == 2 else "trilinear"
            coarse[row, channel] = F.interpolate(shrunk, size=size, mode=how, align_corners=False)[0, 0]
    return coarse


def apply_gamma(image: Tensor, exponents: Tensor, *, inverted: bool) -> Tensor:
    """Raise every channel, stretched to [0, 1], to a power; then restore its mean and its standard deviation.

    Args:
        image: (B, C, ...).
        exponents: (B, C).
        inverted: Do it to the negative.
    """
    sign = -1 if inverted else 1
    curved = _stretched_power(sign * image, _over_space(exponents, image), dims=_space(image))
    mean, deviation = _moments(sign * image)
    mean_now, deviation_now = _moments(curved)
    return sign * ((curved - mean_now) * (deviation / deviation_now.clamp(min=1e-7)) + mean)


def apply_gamma_to_all_channels(image: Tensor, exponents: Tensor) -> Tensor:
    """Raise (B, C, ...), stretched to [0, 1] over all channels together, to a power.

    Args:
        image: Clipped to [0, 1] first.
        exponents: (B, 1); a negative one does it to the inverted image.
    """
    inverted = _over_space((exponents < 0).to(image.dtype), image)
    curved = _stretched_power(
        (image.clamp(0, 1) - inverted).abs(),
        _over_space(exponents.abs(), image),
        dims=(1, *_space(image)),
        smallest_span=1e-6,
    )
    return (curved - inverted).abs()


def _stretched_power(image: Tensor, exponents: Tensor, *, dims: tuple[int, ...], smallest_span: float = 1e-7) -> Tensor:
    """Stretch to [0, 1] over the dimensions, raise to a power, and undo the stretching."""
    low, high = image.amin(dim=dims, keepdim=True), image.amax(dim=dims, keepdim=True)
    span = (high - low).clamp(min=smallest_span)
    power: Tensor = ((image - low) / span) ** exponents * span + low
    return power


def _moments(image: Tensor) -> tuple[Tensor, Tensor]:
    space = _space(image)
    return image.mean(dim=space, keepdim=True), image.std(dim=space, keepdim=True, correction=0)


def _space(image: Tensor) -> tuple[int, ...]:
    """Axes of (B, C, ...) after batch and channels."""
    return tuple(range(2, image.ndim))


def _over_space(numbers: Tensor, image: Tensor) -> Tensor:
    """(B, C) with axes of length 1 for those of space."""
    return numbers[(..., *(None,) * (image.ndim - 2))]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
