"""Cut drawn crops out of a batch on its device: every change once for all images, no waiting for the device."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.ssl.crops import Crop

_GREY = (0.299, 0.587, 0.114)
_TAPS = 9


def apply(pixels: Tensor, crops: Sequence[Crop], *, size: int, light: bool = True) -> Tensor:
    """Views (B, 3, size, size) in [0, 1]; one comes out the same whatever it shares its batch with.

    Args:
        pixels: (B, 3, S, S) uint8, whole images squeezed to squares.
        crops: One an image.
        size: Side of the views.
        light: Without, only the geometry is applied, as for a Gram teacher.
    """
    views = _cut(pixels.float() / 255, crops, size)
    if not light:
        return views
    views = _coloured(views, crops)
    if any(crop.blur for crop in crops):
        views = _blurred(views, crops)
    if any(crop.solarise for crop in crops):
        inverted = torch.where(views >= 0.5, 1 - views, views)
        views = torch.where(_column([float(crop.solarise) for crop in crops], views) > 0, inverted, views)
    return views


def _cut(images: Tensor, crops: Sequence[Crop], size: int) -> Tensor:
    """Bicubic; a crop that shrinks is cut out of a copy of half, a quarter, ... of the size, else it would alias."""
    theta = on_device(torch.tensor([_matrix(crop) for crop in crops]), images.device)
    grid = F.affine_grid(theta, [len(crops), 1, size, size], align_corners=False)
    levels = [_level(crop, side=images.shape[-1], size=size) for crop in crops]
    views = images.new_empty(len(crops), images.shape[1], size, size)
    for level in sorted(set(levels)):
        rows = on_device(torch.tensor([row for row, its in enumerate(levels) if its == level]), images.device)
        chosen = images[rows]
        if level:
            chosen = F.interpolate(chosen, size=[images.shape[-1] >> level] * 2, mode="area")
        cut = F.grid_sample(chosen, grid[rows], mode="bicubic", padding_mode="border", align_corners=False)
        views = views.index_copy(0, rows, cut)
    return views.clamp(0, 1)


def _level(crop: Crop, *, side: int, size: int) -> int:
    """How often the image is halved before the crop is cut out of it; the longer side decides."""
    shrinks = max(crop.width, crop.height) * side / size
    return max(0, min(round(math.log2(shrinks)), int(math.log2(side))))


def _matrix(crop: Crop) -> list[list[float]]:
    """From the view's to the image's coordinates in [-1, 1]."""
    mirrored = -1.0 if crop.flip else 1.0
    return [[mirrored * crop.width, 0.0, 2 * crop.x - 1], [0.0, crop.height, 2 * crop.y - 1]]


def _coloured(views: Tensor, crops: Sequence[Crop]) -> Tensor:
    """Brightness and shift, contrast, saturation and hue; between them, values stay in [0, 1]."""
    views = (views * _column([crop.brightness for crop in crops], views)).clamp(0, 1)
    mean = _grey(views).mean(dim=(1, 2, 3), keepdim=True)
    contrast, shift = (_column(values, views) for values in zip(*((c.contrast, c.shift) for c in crops), strict=True))
    views = (mean + (views - mean) * contrast + shift).clamp(0, 1)
    if all(crop.saturation == 1 and crop.hue == 0 for crop in crops):
        return views
    mixing = on_device(torch.stack([_mixing(crop) for crop in crops]), views.device)
    return torch.einsum("bij,bjhw->bihw", mixing, views).clamp(0, 1)


def _mixing(crop: Crop) -> Tensor:
    """(3, 3): turns colours about the axis of greys, then brings them nearer to or farther from their own grey."""
    cos, sin = math.cos(crop.hue), math.sin(crop.hue) / math.sqrt(3)
    turn = torch.full((3, 3), (1 - cos) / 3) + cos * torch.eye(3)
    turn += sin * torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    grey = torch.tensor(_GREY).expand(3, 3)
    return (grey + crop.saturation * (torch.eye(3) - grey)) @ turn


def _blurred(views: Tensor, crops: Sequence[Crop]) -> Tensor:
    """A separable Gaussian of nine taps, as DINO's; a standard deviation of 0 leaves a view as it is."""
    batch, channels = views.shape[:2]
    sigma = _column([max(crop.blur, 1e-3) for crop in crops], views).view(-1, 1)
    x = torch.arange(_TAPS, device=views.device, dtype=views.dtype) - _TAPS // 2
    kernel = torch.softmax(-(x**2) / (2 * sigma**2), dim=1)
    kernel = kernel.repeat_interleave(channels, dim=0)[:, None, None, :]
    padded = F.pad(views, (_TAPS // 2,) * 4, mode="replicate").flatten(0, 1)[None]
    groups = batch * channels
    blurred = F.conv2d(F.conv2d(padded, kernel, groups=groups), kernel.transpose(2, 3), groups=groups)
    return blurred.view_as(views)


def _grey(views: Tensor) -> Tensor:
    red, green, blue = _GREY
    return red * views[:, 0:1] + green * views[:, 1:2] + blue * views[:, 2:3]


def _column(values: Sequence[float], views: Tensor) -> Tensor:
    """One number a view, (B, 1, 1, 1), beside the views."""
    return on_device(torch.tensor(values, dtype=views.dtype), views.device).view(-1, 1, 1, 1)


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Bring to the device without waiting for what it is doing: only pinned memory is copied in the background."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
