"""Data augmentation: parameters drawn for each case and epoch, then applied to a batch on its device."""

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
    """What happens to one sample: geometry at once, then the rest in this order; by default nothing.

    Attributes:
        rotation: Radians, counter-clockwise.
        scale: Size of objects relative to before.
        shear: Radians by which vertical lines lean.
        shift_y: Downwards, as a share of the side.
        shift_x: To the right, as a share of the side.
        flip_y: Mirror top to bottom.
        flip_x: Mirror left to right.
        elastic: Standard deviation of the displacements of an elastic deformation, as a share of the side.
        noise: Standard deviation of Gaussian noise, in units of the [0, 1] intensity range.
        seed: Of that noise and of those displacements.
        blur: Standard deviation of the Gaussian blur in pixels.
        brightness: Factor on the intensities.
        contrast: Factor on the distance from the sample's mean.
        low_resolution: The sample is brought to this share of its size and back.
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
    """Draws of one sample, always the same number of them, so that one probability does not move the next draw."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def flip(self, probability: float = 0.5) -> bool:
        return bool(self._generator.random() < probability)

    def between(self, low: float, high: float) -> float:
        return float(self._generator.uniform(low, high))

    def sometimes(self, probability: float, low: float, high: float, otherwise: float = 0.0) -> float:
        value = self.between(low, high)
        return value if self.flip(probability) else otherwise

    def seed(self) -> int:
        return int(self._generator.integers(2**31))


def draw_augmentation(level: Level, generator: np.random.Generator) -> AugmentationParams:
    """Draw the parameters of one sample.

    Args:
        level: "light" mirrors and changes brightness. "nnunet" is nnU-Net v2's two-dimensional set with its
            probabilities (Isensee et al. 2021, supplement), noise up to variance 0.1 of a z-scored image taken as 0.07
            of the intensity range. "guidino" follows the list in the GuiDINO authors' code: quarter turns, affine,
            elastic, brightness and contrast, noise, blur; its noise is of the 3 to 7 grey levels that list once had.
        generator: Of this sample and epoch.
    """
    if level == "none":
        return AugmentationParams()
    dice = _RandomDraws(generator)
    return {"light": _draw_light, "nnunet": _draw_nnunet, "guidino": _draw_guidino}[level](dice)


def _draw_light(dice: _RandomDraws) -> AugmentationParams:
    return AugmentationParams(flip_y=dice.flip(), flip_x=dice.flip(), brightness=dice.between(0.8, 1.2))


def _draw_nnunet(dice: _RandomDraws) -> AugmentationParams:
    gamma = dice.sometimes(0.3, 0.7, 1.5, 1.0)
    return AugmentationParams(
        flip_y=dice.flip(),
        flip_x=dice.flip(),
        rotation=dice.sometimes(0.2, -math.pi, math.pi),
        scale=dice.sometimes(0.2, 0.7, 1.4, 1.0),
        noise=dice.sometimes(0.1, 0.0, 0.07),
        seed=dice.seed(),
        blur=dice.sometimes(0.2, 0.5, 1.0),
        brightness=dice.sometimes(0.15, 0.75, 1.25, 1.0),
        contrast=dice.sometimes(0.15, 0.75, 1.25, 1.0),
        low_resolution=dice.sometimes(0.25, 0.5, 1.0, 1.0),
        gamma=-gamma if dice.flip(0.25) else gamma,
    )


def _draw_guidino(dice: _RandomDraws) -> AugmentationParams:
    quarters = math.pi / 2 * round(dice.sometimes(0.25, 0.5, 3.5))
    is_affine, is_lit = dice.flip(0.2), dice.flip(0.2)
    lean, turn = math.radians(10), math.radians(30)
    scale, brightness, contrast = dice.between(0.7, 1.4), dice.between(0.8, 1.2), dice.between(0.8, 1.2)
    return AugmentationParams(
        flip_y=dice.flip(),
        flip_x=dice.flip(),
        rotation=quarters + is_affine * dice.between(-turn, turn),
        scale=scale if is_affine else 1.0,
        shear=is_affine * dice.between(-lean, lean),
        shift_y=is_affine * dice.between(-0.1, 0.1),
        shift_x=is_affine * dice.between(-0.1, 0.1),
        # Their alpha 120 and sigma 7 displace by about 2.8 of 256 to 512 pixels.
        elastic=dice.sometimes(0.15, 0.005, 0.011),
        noise=dice.sometimes(0.15, 3 / 255, 7 / 255),
        seed=dice.seed(),
        blur=dice.sometimes(0.1, 0.5, 1.1),
        brightness=brightness if is_lit else 1.0,
        contrast=contrast if is_lit else 1.0,
    )


_IDENTITY = AugmentationParams()
# Control points a side of an elastic deformation: a smoothness of 7 of 256 pixels, as in the authors' list.
_CONTROL_POINTS = 18


def augment_batch(image: Tensor, mask: Tensor, augmentations: Sequence[AugmentationParams]) -> tuple[Tensor, Tensor]:
    """Augment a batch; a sample comes out the same whatever it shares its batch with.

    Args:
        image: (B, C, H, W) in [0, 1], H = W.
        mask: (B, H, W) class indices.
        augmentations: One a sample.

    Returns:
        Image and mask of the same shapes; the mask holds no value it did not hold before, but 0 from outside the image.
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
    chosen, where = [augmentations[i] for i in rows], _to_device(torch.tensor(rows), image.device)
    theta = _to_device(torch.tensor([_inverse_affine(a) for a in chosen], dtype=image.dtype), image.device)
    # A non-square sample would be sheared by a rotation in [-1, 1] coordinates; samples are square.
    grid = F.affine_grid(theta, [len(rows), 1, *image.shape[-2:]], align_corners=False)
    if any(a.elastic for a in chosen):
        grid = grid + _elastic_displacement(image, chosen)
    pixels = F.grid_sample(image[where], grid, mode="bilinear", align_corners=False)
    labels = F.grid_sample(mask[where][:, None].to(image.dtype), grid, mode="nearest", align_corners=False)
    return image.index_copy(0, where, pixels), mask.index_copy(0, where, labels[:, 0].round().to(mask.dtype))


def _inverse_affine(a: AugmentationParams) -> list[list[float]]:
    """From output to input coordinates in [-1, 1]: the inverse of flip, shear, scale, rotation and shift."""
    cos, sin = math.cos(a.rotation) / a.scale, math.sin(a.rotation) / a.scale
    rotation = np.array([[cos, -sin], [sin, cos]])
    shear = np.array([[1.0, math.tan(a.shear)], [0.0, 1.0]])
    flip = np.diag([-1.0 if a.flip_x else 1.0, -1.0 if a.flip_y else 1.0])
    linear = flip @ shear @ rotation
    offset = -linear @ np.array([2 * a.shift_x, 2 * a.shift_y])
    matrix: list[list[float]] = np.column_stack([linear, offset]).tolist()
    return matrix


def _elastic_displacement(image: Tensor, chosen: Sequence[AugmentationParams]) -> Tensor:
    """Smooth random displacements (B, H, W, 2) in [-1, 1] coordinates: cubic between random control points."""
    size = (2, _CONTROL_POINTS, _CONTROL_POINTS)
    # Drawn on the CPU, so that a sample is bent alike on every device.
    points = torch.stack([2 * a.elastic * torch.randn(size, generator=_seeded_generator(a.seed + 1)) for a in chosen])
    moved = _to_device(points.to(image.dtype), image.device)
    smooth = F.interpolate(moved, size=image.shape[-2:], mode="bicubic", align_corners=False)
    return smooth.permute(0, 2, 3, 1)


def _add_noise(image: Tensor, chosen: Sequence[AugmentationParams]) -> Tensor:
    noise = torch.stack([torch.randn(image.shape[1:], generator=_seeded_generator(a.seed)) for a in chosen])
    return image + _per_sample([a.noise for a in chosen], image) * _to_device(noise, image.device).to(image.dtype)


def _blur(image: Tensor, chosen: Sequence[AugmentationParams]) -> Tensor:
    """One separable Gaussian a sample, cut at three of its standard deviations."""
    batch, channels = image.shape[:2]
    sigma = _per_sample([a.blur for a in chosen], image).view(-1, 1)
    radius = max(math.ceil(3 * a.blur) for a in chosen)
    x = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-(x**2) / (2 * sigma**2)) * (x.abs() <= (3 * sigma).ceil())
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)[:, None, None, :]
    padded = F.pad(image, (radius,) * 4, mode="replicate").flatten(0, 1)[None]
    groups = batch * channels
    blurred = F.conv2d(F.conv2d(padded, kernel, groups=groups), kernel.transpose(2, 3), groups=groups)
    return blurred.view_as(image)


def _scale_brightness(image: Tensor, chosen: Sequence[AugmentationParams]) -> Tensor:
    return image * _per_sample([a.brightness for a in chosen], image)


def _scale_contrast(image: Tensor, chosen: Sequence[AugmentationParams]) -> Tensor:
    mean = image.mean(dim=(2, 3), keepdim=True)
    return mean + (image - mean) * _per_sample([a.contrast for a in chosen], image)


def _simulate_low_resolution(image: Tensor, chosen: Sequence[AugmentationParams]) -> Tensor:
    size = image.shape[-2:]
    coarse = []
    for sample, a in zip(image, chosen, strict=True):
        small = [max(1, round(side * a.low_resolution)) for side in size]
        shrunk = F.interpolate(sample[None], size=small, mode="nearest-exact")
        coarse.append(F.interpolate(shrunk, size=size, mode="bicubic", align_corners=False))
    return torch.cat(coarse)


def _apply_gamma(image: Tensor, chosen: Sequence[AugmentationParams]) -> Tensor:
    inverted = _per_sample([float(a.gamma < 0) for a in chosen], image)
    image = (image.clamp(0, 1) - inverted).abs()
    low, high = image.amin(dim=(1, 2, 3), keepdim=True), image.amax(dim=(1, 2, 3), keepdim=True)
    span = (high - low).clamp(min=1e-6)
    curved = ((image - low) / span) ** _per_sample([abs(a.gamma) for a in chosen], image) * span + low
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
    """One number a sample, (B, 1, 1, 1), beside the image."""
    return _to_device(torch.tensor(values, dtype=image.dtype), image.device).view(-1, 1, 1, 1)


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Bring to the device without waiting for what it is doing: only pinned memory is copied in the background."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
