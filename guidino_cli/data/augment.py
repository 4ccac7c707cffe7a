"""Random geometry and intensity for a batch: drawn for each case and epoch, then applied on the batch's device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Level = Literal["none", "light", "nnunet"]


@dataclass(frozen=True)
class Augmentation:
    """What happens to one sample: flip, rotation and scale at once, then the rest in this order; by default nothing.

    Attributes:
        rotation: Radians, counter-clockwise.
        scale: Size of objects relative to before.
        flip_y: Mirror top to bottom.
        flip_x: Mirror left to right.
        noise: Standard deviation of Gaussian noise, in units of the [0, 1] intensity range.
        noise_seed: Seed of that noise.
        blur: Standard deviation of the Gaussian blur in pixels.
        brightness: Factor on the intensities.
        contrast: Factor on the distance from the sample's mean.
        low_resolution: The sample is brought to this share of its size and back.
        gamma: Exponent on intensities stretched to [0, 1]; negative values apply it to the inverted image.
    """

    rotation: float = 0.0
    scale: float = 1.0
    flip_y: bool = False
    flip_x: bool = False
    noise: float = 0.0
    noise_seed: int = 0
    blur: float = 0.0
    brightness: float = 1.0
    contrast: float = 1.0
    low_resolution: float = 1.0
    gamma: float = 1.0


def draw(level: Level, generator: np.random.Generator) -> Augmentation:
    """Draw the parameters of one sample.

    "nnunet" follows nnU-Net v2's two-dimensional set and probabilities (Isensee et al. 2021, supplement): noise up to
    variance 0.1 of a z-scored image is taken as 0.07 of the intensity range. "light" mirrors and changes brightness.
    """
    if level == "none":
        return Augmentation()
    flips = {"flip_y": bool(generator.random() < 0.5), "flip_x": bool(generator.random() < 0.5)}
    if level == "light":
        return Augmentation(**flips, brightness=float(generator.uniform(0.8, 1.2)))

    def sometimes(probability: float, low: float, high: float, otherwise: float) -> float:
        value = float(generator.uniform(low, high))
        return value if generator.random() < probability else otherwise

    gamma = sometimes(0.3, 0.7, 1.5, 1.0)
    return Augmentation(
        **flips,
        rotation=sometimes(0.2, -math.pi, math.pi, 0.0),
        scale=sometimes(0.2, 0.7, 1.4, 1.0),
        noise=sometimes(0.1, 0.0, 0.07, 0.0),
        noise_seed=int(generator.integers(2**31)),
        blur=sometimes(0.2, 0.5, 1.0, 0.0),
        brightness=sometimes(0.15, 0.75, 1.25, 1.0),
        contrast=sometimes(0.15, 0.75, 1.25, 1.0),
        low_resolution=sometimes(0.25, 0.5, 1.0, 1.0),
        gamma=-gamma if generator.random() < 0.25 else gamma,
    )


def apply(image: Tensor, mask: Tensor, augmentations: Sequence[Augmentation]) -> tuple[Tensor, Tensor]:
    """Augment a batch.

    Args:
        image: (B, C, H, W) in [0, 1].
        mask: (B, H, W) class indices.
        augmentations: One a sample.

    Returns:
        Image and mask of the same shapes; the mask holds no value it did not hold before, but 0 from outside the image.
    """
    image, mask = _move(image, mask, augmentations)
    return torch.stack([_recolour(sample, a) for sample, a in zip(image, augmentations, strict=True)]), mask


def _move(image: Tensor, mask: Tensor, augmentations: Sequence[Augmentation]) -> tuple[Tensor, Tensor]:
    moved = [i for i, a in enumerate(augmentations) if _matrix(a) != _matrix(Augmentation())]
    if not moved:
        return image, mask
    theta = torch.tensor([_matrix(augmentations[i]) for i in moved], device=image.device, dtype=image.dtype)
    image, mask = image.clone(), mask.clone()
    # A non-square sample would be sheared by a rotation in [-1, 1] coordinates; samples are square.
    grid = F.affine_grid(theta, [len(moved), 1, *image.shape[-2:]], align_corners=False)
    image[moved] = F.grid_sample(image[moved], grid, mode="bilinear", align_corners=False)
    labels = F.grid_sample(mask[moved][:, None].to(image.dtype), grid, mode="nearest", align_corners=False)
    mask[moved] = labels[:, 0].round().to(mask.dtype)
    return image, mask


def _matrix(a: Augmentation) -> list[list[float]]:
    """From output to input coordinates: the inverse of flip, rotation and scale."""
    cos, sin = math.cos(a.rotation) / a.scale, math.sin(a.rotation) / a.scale
    x, y = (-1.0 if a.flip_x else 1.0), (-1.0 if a.flip_y else 1.0)
    return [[x * cos, -x * sin, 0.0], [y * sin, y * cos, 0.0]]


def _recolour(sample: Tensor, a: Augmentation) -> Tensor:
    """Intensity changes of one sample (C, H, W)."""
    if a.noise > 0:
        generator = torch.Generator().manual_seed(a.noise_seed)
        sample = sample + a.noise * torch.randn(sample.shape, generator=generator).to(sample)
    if a.blur > 0:
        sample = _blurred(sample, a.blur)
    sample = sample * a.brightness
    if a.contrast != 1:
        mean = sample.mean(dim=(1, 2), keepdim=True)
        sample = mean + (sample - mean) * a.contrast
    if a.low_resolution < 1:
        sample = _coarsened(sample, a.low_resolution)
    sample = sample.clamp(0, 1)
    if a.gamma < 0:
        return 1 - _gamma(1 - sample, -a.gamma)
    return _gamma(sample, a.gamma)


def _blurred(sample: Tensor, sigma: float) -> Tensor:
    radius = math.ceil(3 * sigma)
    x = torch.arange(-radius, radius + 1, device=sample.device, dtype=sample.dtype)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    padded = F.pad(sample[:, None], (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[..., None]), kernel[:, :, None])[:, 0]


def _coarsened(sample: Tensor, share: float) -> Tensor:
    size = sample.shape[-2:]
    small = F.interpolate(sample[None], size=[max(1, round(side * share)) for side in size], mode="nearest-exact")
    return F.interpolate(small, size=size, mode="bicubic", align_corners=False)[0]


def _gamma(sample: Tensor, exponent: float) -> Tensor:
    if exponent == 1:
        return sample
    low, high = sample.amin(), sample.amax()
    span = (high - low).clamp(min=1e-6)
    return ((sample - low) / span) ** exponent * span + low
