"""Augment a batch on its device: every change once for all samples that undergo it, no waiting for the device."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.data.augment import Augmentation

_NEUTRAL = Augmentation()
# Control points a side of an elastic deformation: a smoothness of 7 of 256 pixels, as in the authors' list.
_CONTROL_POINTS = 18


def apply(image: Tensor, mask: Tensor, augmentations: Sequence[Augmentation]) -> tuple[Tensor, Tensor]:
    """Augment a batch; a sample comes out the same whatever it shares its batch with.

    Args:
        image: (B, C, H, W) in [0, 1], H = W.
        mask: (B, H, W) class indices.
        augmentations: One a sample.

    Returns:
        Image and mask of the same shapes; the mask holds no value it did not hold before, but 0 from outside the image.
    """
    image, mask = _moved(image, mask, augmentations)
    for name, change in _CHANGES.items():
        rows = [i for i, a in enumerate(augmentations) if getattr(a, name) != getattr(_NEUTRAL, name)]
        if rows:
            where = _on(torch.tensor(rows), image.device)
            image = image.index_copy(0, where, change(image[where], [augmentations[i] for i in rows]))
    return image.clamp(0, 1), mask


def _moved(image: Tensor, mask: Tensor, augmentations: Sequence[Augmentation]) -> tuple[Tensor, Tensor]:
    rows = [i for i, a in enumerate(augmentations) if a.elastic or _matrix(a) != _matrix(_NEUTRAL)]
    if not rows:
        return image, mask
    chosen, where = [augmentations[i] for i in rows], _on(torch.tensor(rows), image.device)
    theta = _on(torch.tensor([_matrix(a) for a in chosen], dtype=image.dtype), image.device)
    # A non-square sample would be sheared by a rotation in [-1, 1] coordinates; samples are square.
    grid = F.affine_grid(theta, [len(rows), 1, *image.shape[-2:]], align_corners=False)
    if any(a.elastic for a in chosen):
        grid = grid + _displacement(image, chosen)
    pixels = F.grid_sample(image[where], grid, mode="bilinear", align_corners=False)
    labels = F.grid_sample(mask[where][:, None].to(image.dtype), grid, mode="nearest", align_corners=False)
    return image.index_copy(0, where, pixels), mask.index_copy(0, where, labels[:, 0].round().to(mask.dtype))


def _matrix(a: Augmentation) -> list[list[float]]:
    """From output to input coordinates in [-1, 1]: the inverse of flip, shear, scale, rotation and shift."""
    cos, sin = math.cos(a.rotation) / a.scale, math.sin(a.rotation) / a.scale
    rotation = np.array([[cos, -sin], [sin, cos]])
    shear = np.array([[1.0, math.tan(a.shear)], [0.0, 1.0]])
    flip = np.diag([-1.0 if a.flip_x else 1.0, -1.0 if a.flip_y else 1.0])
    linear = flip @ shear @ rotation
    offset = -linear @ np.array([2 * a.shift_x, 2 * a.shift_y])
    matrix: list[list[float]] = np.column_stack([linear, offset]).tolist()
    return matrix


def _displacement(image: Tensor, chosen: Sequence[Augmentation]) -> Tensor:
    """Smooth random displacements (B, H, W, 2) in [-1, 1] coordinates: cubic between random control points."""
    size = (2, _CONTROL_POINTS, _CONTROL_POINTS)
    # Drawn on the CPU, so that a sample is bent alike on every device.
    points = torch.stack([2 * a.elastic * torch.randn(size, generator=_generator(a.seed + 1)) for a in chosen])
    moved = _on(points.to(image.dtype), image.device)
    smooth = F.interpolate(moved, size=image.shape[-2:], mode="bicubic", align_corners=False)
    return smooth.permute(0, 2, 3, 1)


def _noisy(image: Tensor, chosen: Sequence[Augmentation]) -> Tensor:
    noise = torch.stack([torch.randn(image.shape[1:], generator=_generator(a.seed)) for a in chosen])
    return image + _column([a.noise for a in chosen], image) * _on(noise, image.device).to(image.dtype)


def _blurred(image: Tensor, chosen: Sequence[Augmentation]) -> Tensor:
    """One separable Gaussian a sample, cut at three of its standard deviations."""
    batch, channels = image.shape[:2]
    sigma = _column([a.blur for a in chosen], image).view(-1, 1)
    radius = max(math.ceil(3 * a.blur) for a in chosen)
    x = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-(x**2) / (2 * sigma**2)) * (x.abs() <= (3 * sigma).ceil())
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)[:, None, None, :]
    padded = F.pad(image, (radius,) * 4, mode="replicate").flatten(0, 1)[None]
    groups = batch * channels
    blurred = F.conv2d(F.conv2d(padded, kernel, groups=groups), kernel.transpose(2, 3), groups=groups)
    return blurred.view_as(image)


def _brightened(image: Tensor, chosen: Sequence[Augmentation]) -> Tensor:
    return image * _column([a.brightness for a in chosen], image)


def _contrasted(image: Tensor, chosen: Sequence[Augmentation]) -> Tensor:
    mean = image.mean(dim=(2, 3), keepdim=True)
    return mean + (image - mean) * _column([a.contrast for a in chosen], image)


def _coarsened(image: Tensor, chosen: Sequence[Augmentation]) -> Tensor:
    size = image.shape[-2:]
    coarse = []
    for sample, a in zip(image, chosen, strict=True):
        small = [max(1, round(side * a.low_resolution)) for side in size]
        shrunk = F.interpolate(sample[None], size=small, mode="nearest-exact")
        coarse.append(F.interpolate(shrunk, size=size, mode="bicubic", align_corners=False))
    return torch.cat(coarse)


def _gamma(image: Tensor, chosen: Sequence[Augmentation]) -> Tensor:
    inverted = _column([float(a.gamma < 0) for a in chosen], image)
    image = (image.clamp(0, 1) - inverted).abs()
    low, high = image.amin(dim=(1, 2, 3), keepdim=True), image.amax(dim=(1, 2, 3), keepdim=True)
    span = (high - low).clamp(min=1e-6)
    curved = ((image - low) / span) ** _column([abs(a.gamma) for a in chosen], image) * span + low
    return (curved - inverted).abs()


_CHANGES: dict[str, Callable[[Tensor, Sequence[Augmentation]], Tensor]] = {
    "noise": _noisy,
    "blur": _blurred,
    "brightness": _brightened,
    "contrast": _contrasted,
    "low_resolution": _coarsened,
    "gamma": _gamma,
}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _column(values: Sequence[float], image: Tensor) -> Tensor:
    """One number a sample, (B, 1, 1, 1), beside the image."""
    return _on(torch.tensor(values, dtype=image.dtype), image.device).view(-1, 1, 1, 1)


def _on(tensor: Tensor, device: torch.device) -> Tensor:
    """Bring to the device without waiting for what it is doing: only pinned memory is copied in the background."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
