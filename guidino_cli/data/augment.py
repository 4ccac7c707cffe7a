"""Data augmentation: draw parameters for each sample, then apply them to a batch on its device."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Level = Literal["none", "light", "nnunet", "guidino"]


@dataclass(frozen=True)
class AugmentationParams:
    """Parameters for one sample; the defaults change nothing.

    The geometric ones are applied in one resampling, then the others in the order of this list.

    Attributes:
        rotation: Radians, counter-clockwise.
        scale: Size of objects relative to before.
        shear: Angle of vertical lines in radians; positive angles lean to the right.
        shift_y: Downwards, as a share of the side.
        shift_x: To the right, as a share of the side.
        flip_y: Mirror top to bottom.
        flip_x: Mirror left to right.
        elastic: Standard deviation of the displacements of an elastic deformation, as a share of the side.
        noise: Standard deviation of Gaussian noise, in units of the [0, 1] intensity range.
        seed: Random seed of the noise and the displacements.
        blur: Standard deviation of the Gaussian blur in pixels.
        brightness: Factor on the intensities.
        contrast: Factor on the distance from the sample's mean.
        low_resolution: The sample is downsampled to this share of its size and upsampled again.
        gamma: Exponent on intensities stretched to [0, 1]; negative values apply it to the inverted image.
    """

    rotation: float = 0.0
    scale: float = 1.0
    shear: float = 0.0
    shift_y: float = 0.0
    shift_x: float = 0.0
    flip_y: bool = False
    flip_x: bool = False
    elastic: float = 0.0
    noise: float = 0.0
    seed: int = 0
    blur: float = 0.0
    brightness: float = 1.0
    contrast: float = 1.0
    low_resolution: float = 1.0
    gamma: float = 1.0


class _RandomDraws:
    """Random draws for one sample, always the same number, so that one probability does not change later draws."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def flip(self, probability: float = 0.5) -> bool:
        return bool(self._generator.random() < probability)

    def uniform(self, low: float, high: float) -> float:
        return float(self._generator.uniform(low, high))

    def uniform_or(self, probability: float, low: float, high: float, default: float = 0.0) -> float:
        value = self.uniform(low, high)
        return value if self.flip(probability) else default

    def seed(self) -> int:
        return int(self._generator.integers(2**31))


def draw_augmentation(level: Level, generator: np.random.Generator) -> AugmentationParams:
    """Draw the parameters of one sample.

    Args:
        level: "light" mirrors and changes brightness. "nnunet" is nnU-Net v2's two-dimensional set with its
            probabilities (Isensee et al. 2021, supplement); noise up to variance 0.1 of a z-scored image is taken as
            0.07 of the intensity range. "guidino" follows the GuiDINO authors' code: rotation by 90 degrees, affine,
            elastic, brightness and contrast, noise, blur; noise of 3 to 7 grey levels, as in an earlier version.
        generator: Random generator of this sample and epoch.
    """
    if level == "none":
        return AugmentationParams()
    draws = _RandomDraws(generator)
    return {"light": _draw_light, "nnunet": _draw_nnunet, "guidino": _draw_guidino}[level](draws)


def _draw_light(draws: _RandomDraws) -> AugmentationParams:
    return AugmentationParams(flip_y=draws.flip(), flip_x=draws.flip(), brightness=draws.uniform(0.8, 1.2))


def _draw_nnunet(draws: _RandomDraws) -> AugmentationParams:
    gamma = draws.uniform_or(0.3, 0.7, 1.5, 1.0)
    return AugmentationParams(
        flip_y=draws.flip(),
        flip_x=draws.flip(),
        rotation=draws.uniform_or(0.2, -math.pi, math.pi),
        scale=draws.uniform_or(0.2, 0.7, 1.4, 1.0),
        noise=draws.uniform_or(0.1, 0.0, 0.07),
        seed=draws.seed(),
        blur=draws.uniform_or(0.2, 0.5, 1.0),
        brightness=draws.uniform_or(0.15, 0.75, 1.25, 1.0),
        contrast=draws.uniform_or(0.15, 0.75, 1.25, 1.0),
        low_resolution=draws.uniform_or(0.25, 0.5, 1.0, 1.0),
        gamma=-gamma if draws.flip(0.25) else gamma,
    )


def _draw_guidino(draws: _RandomDraws) -> AugmentationParams:
    quarter_turns = math.pi / 2 * round(draws.uniform_or(0.25, 0.5, 3.5))
    is_affine, is_photometric = draws.flip(0.2), draws.flip(0.2)
    max_shear, max_rotation = math.radians(10), math.radians(30)
    scale, brightness, contrast = draws.uniform(0.7, 1.4), draws.uniform(0.8, 1.2), draws.uniform(0.8, 1.2)
    return AugmentationParams(
        flip_y=draws.flip(),
        flip_x=draws.flip(),
        rotation=quarter_turns + is_affine * draws.uniform(-max_rotation, max_rotation),
        scale=scale if is_affine else 1.0,
        shear=is_affine * draws.uniform(-max_shear, max_shear),
        shift_y=is_affine * draws.uniform(-0.1, 0.1),
        shift_x=is_affine * draws.uniform(-0.1, 0.1),
        # Their alpha 120 and sigma 7 displace by about 2.8 of 256 to 512 pixels.
        elastic=draws.uniform_or(0.15, 0.005, 0.011),
        noise=draws.uniform_or(0.15, 3 / 255, 7 / 255),
        seed=draws.seed(),
        blur=draws.uniform_or(0.1, 0.5, 1.1),
        brightness=brightness if is_photometric else 1.0,
        contrast=contrast if is_photometric else 1.0,
    )


_IDENTITY = AugmentationParams()
# Control points a side of an elastic deformation: a smoothness of 7 of 256 pixels, as in the authors' list.
_CONTROL_POINTS = 18


def augment_batch(image: Tensor, mask: Tensor, augmentations: Sequence[AugmentationParams]) -> tuple[Tensor, Tensor]:
    """Augment a batch; the result of a sample does not depend on the others in the batch.

    Args:
        image: (B, C, H, W) in [0, 1], H = W.
        mask: (B, H, W) class indices.
        augmentations: Parameters of each sample.

    Returns:
        Image and mask of the same shapes; outside the image both are 0, and the mask gets no other new value.
    """
    image, mask = _warp(image, mask, augmentations)
    for name, change in _INTENSITY_TRANSFORMS.items():
        rows = [i for i, a in enumerate(augmentations) if getattr(a, name) != getattr(_IDENTITY, name)]
        if rows:
            where = _to_device(torch.tensor(rows), image.device)
            image = image.index_copy(0, where, change(image[where], [augmentations[i] for i in rows]))
    return image.clamp(0, 1), mask


def _warp(image: Tensor, mask: Tensor, augmentations: Sequence[AugmentationParams]) -> tuple[Tensor, Tensor]:
    rows = [i for i, a in enumerate(augmentations) if a.elastic or _inverse_affine(a) != _inverse_affine(_IDENTITY)]
    if not rows:
        return image, mask
    params, where = [augmentations[i] for i in rows], _to_device(torch.tensor(rows), image.device)
    theta = _to_device(torch.tensor([_inverse_affine(a) for a in params], dtype=image.dtype), image.device)
    # A non-square sample would be sheared by a rotation in [-1, 1] coordinates; samples are square.
    grid = F.affine_grid(theta, [len(rows), 1, *image.shape[-2:]], align_corners=False)
    if any(a.elastic for a in params):
        grid = grid + _elastic_displacement(image, params)
    pixels = F.grid_sample(image[where], grid, mode="bilinear", align_corners=False)
    labels = F.grid_sample(mask[where][:, None].to(image.dtype), grid, mode="nearest", align_corners=False)
    return image.index_copy(0, where, pixels), mask.index_copy(0, where, labels[:, 0].round().to(mask.dtype))


def _inverse_affine(a: AugmentationParams) -> list[list[float]]:
    """(2, 3) from output to input coordinates in [-1, 1]: inverse of flip, shear, scale, rotation and shift."""
    cos, sin = math.cos(a.rotation) / a.scale, math.sin(a.rotation) / a.scale
    rotation = np.array([[cos, -sin], [sin, cos]])
    shear = np.array([[1.0, math.tan(a.shear)], [0.0, 1.0]])
    flip = np.diag([-1.0 if a.flip_x else 1.0, -1.0 if a.flip_y else 1.0])
    linear = flip @ shear @ rotation
    offset = -linear @ np.array([2 * a.shift_x, 2 * a.shift_y])
    matrix: list[list[float]] = np.column_stack([linear, offset]).tolist()
    return matrix


def _elastic_displacement(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    """Smooth random displacements (B, H, W, 2) in [-1, 1] coordinates: cubic between random control points."""
    size = (2, _CONTROL_POINTS, _CONTROL_POINTS)
    # Drawn on the CPU, so that the deformation is the same on every device.
    points = torch.stack([2 * a.elastic * torch.randn(size, generator=_seeded_generator(a.seed + 1)) for a in params])
    moved = _to_device(points.to(image.dtype), image.device)
    smooth = F.interpolate(moved, size=image.shape[-2:], mode="bicubic", align_corners=False)
    return smooth.permute(0, 2, 3, 1)


def _add_noise(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    noise = torch.stack([torch.randn(image.shape[1:], generator=_seeded_generator(a.seed)) for a in params])
    return image + _per_sample([a.noise for a in params], image) * _to_device(noise, image.device).to(image.dtype)


def _blur(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    """Blur each sample by its own separable Gaussian, truncated at three standard deviations."""
    batch, channels = image.shape[:2]
    sigma = _per_sample([a.blur for a in params], image).view(-1, 1)
    radius = max(math.ceil(3 * a.blur) for a in params)
    x = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-(x**2) / (2 * sigma**2)) * (x.abs() <= (3 * sigma).ceil())
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)[:, None, None, :]
    padded = F.pad(image, (radius,) * 4, mode="replicate").flatten(0, 1)[None]
    groups = batch * channels
    blurred = F.conv2d(F.conv2d(padded, kernel, groups=groups), kernel.transpose(2, 3), groups=groups)
    return blurred.view_as(image)


def _scale_brightness(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    return image * _per_sample([a.brightness for a in params], image)


def _scale_contrast(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    mean = image.mean(dim=(2, 3), keepdim=True)
    return mean + (image - mean) * _per_sample([a.contrast for a in params], image)


def _simulate_low_resolution(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    size = image.shape[-2:]
    coarse = []
    for sample, a in zip(image, params, strict=True):
        small = [max(1, round(side * a.low_resolution)) for side in size]
        shrunk = F.interpolate(sample[None], size=small, mode="nearest-exact")
        coarse.append(F.interpolate(shrunk, size=size, mode="bicubic", align_corners=False))
    return torch.cat(coarse)


def _apply_gamma(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    inverted = _per_sample([float(a.gamma < 0) for a in params], image)
    image = (image.clamp(0, 1) - inverted).abs()
    low, high = image.amin(dim=(1, 2, 3), keepdim=True), image.amax(dim=(1, 2, 3), keepdim=True)
    span = (high - low).clamp(min=1e-6)
    curved = ((image - low) / span) ** _per_sample([abs(a.gamma) for a in params], image) * span + low
    return (curved - inverted).abs()


_INTENSITY_TRANSFORMS: dict[str, Callable[[Tensor, Sequence[AugmentationParams]], Tensor]] = {
    "noise": _add_noise,
    "blur": _blur,
    "brightness": _scale_brightness,
    "contrast": _scale_contrast,
    "low_resolution": _simulate_low_resolution,
    "gamma": _apply_gamma,
}


def _seeded_generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _per_sample(values: Sequence[float], image: Tensor) -> Tensor:
    """One number a sample as (B, 1, 1, 1), in the image's type and on its device."""
    return _to_device(torch.tensor(values, dtype=image.dtype), image.device).view(-1, 1, 1, 1)


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy to the device without waiting for its queue: only pinned memory is copied asynchronously."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
