"""Random crops with photometric augmentation: drawn per image, epoch and view, applied to a batch on its device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.device_transfer import to_device

Light = Literal["photo", "grey", "window", "none"]

_ASPECT_RANGE = (3 / 4, 4 / 3)
_ATTEMPTS = 10
_GREY_WEIGHTS = (0.299, 0.587, 0.114)
_BLUR_TAPS = 9


@dataclass(frozen=True)
class CropDistribution:
    """Distribution of the crops of a view. Defaults: the first global crop of DINOv2 and DINOv3.

    Attributes:
        area: Smallest and largest share of the image's area.
        flip: Probability of a left-right flip.
        blur: Probability of a Gaussian blur of standard deviation 0.1 to 2 pixels.
        solarise: Probability of inverting values above 0.5; for photographs only.
        light: "photo" jitters brightness, contrast, saturation and hue, "grey" only the first two, "window" shifts and
            stretches intensities as another level and width of a CT or MR window does, "none" nothing.
    """

    area: tuple[float, float] = (0.32, 1.0)
    flip: float = 0.5
    blur: float = 1.0
    solarise: float = 0.0
    light: Light = "photo"


@dataclass(frozen=True)
class CropParams:
    """Parameters of one crop, applied in this order; by default the whole image unchanged.

    Attributes:
        x: Centre, as a share of the image's width.
        y: Centre, as a share of its height.
        width: As a share of the image's width.
        height: As a share of its height.
        flip: Flip left to right.
        brightness: Factor on the intensities.
        contrast: Factor on the distance from the crop's mean grey.
        saturation: Factor on the distance from grey; 0 makes it grey.
        hue: Rotation of colours about the grey axis in radians.
        shift: Added to the intensities.
        blur: Standard deviation in pixels of the view.
        solarise: Invert values above 0.5.
    """

    x: float = 0.5
    y: float = 0.5
    width: float = 1.0
    height: float = 1.0
    flip: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    shift: float = 0.0
    blur: float = 0.0
    solarise: bool = False


def draw_crop(distribution: CropDistribution, generator: np.random.Generator, *, aspect: float) -> CropParams:
    """Draw the parameters of a crop.

    Args:
        distribution: Of the view.
        generator: Seeded for this image, epoch and view.
        aspect: Width over height of the image; crops are between 3:4 and 4:3 in the image's own pixels.
    """
    width, height = _draw_size(distribution.area, generator, aspect)
    x, y = (side / 2 + generator.random() * (1 - side) for side in (width, height))
    flip = bool(generator.random() < distribution.flip)
    sigma, is_blurred = generator.uniform(0.1, 2.0), generator.random() < distribution.blur
    is_solarised = bool(generator.random() < distribution.solarise) and distribution.light == "photo"
    return CropParams(
        x=x,
        y=y,
        width=width,
        height=height,
        flip=flip,
        blur=float(sigma) if is_blurred else 0.0,
        solarise=is_solarised,
        **_draw_jitter(distribution.light, generator),
    )


def _draw_size(area_range: tuple[float, float], generator: np.random.Generator, aspect: float) -> tuple[float, float]:
    """Width and height as shares of the image; the largest crop of an allowed shape if none of the area fits."""
    low, high = math.log(_ASPECT_RANGE[0]), math.log(_ASPECT_RANGE[1])
    for _ in range(_ATTEMPTS):
        area, shape = generator.uniform(*area_range), math.exp(generator.uniform(low, high))
        width, height = math.sqrt(area * shape / aspect), math.sqrt(area / shape * aspect)
        if width <= 1 and height <= 1:
            return width, height
    shape = min(max(aspect, _ASPECT_RANGE[0]), _ASPECT_RANGE[1])
    return min(1.0, shape / aspect), min(1.0, aspect / shape)


def _draw_jitter(light: Light, generator: np.random.Generator) -> dict[str, float]:
    """Photometric parameters; the number of draws is constant, so that `light` does not change later draws."""
    is_jittered, is_grey = generator.random() < 0.8, generator.random() < 0.2
    brightness, contrast, saturation = (float(generator.uniform(1 - by, 1 + by)) for by in (0.4, 0.4, 0.2))
    hue, shift = float(generator.uniform(-0.1, 0.1)), float(generator.uniform(-0.15, 0.15))
    if light == "none" or (not is_jittered and light != "photo"):
        return {}
    if light == "window":
        return {"contrast": contrast, "shift": shift}
    if light == "grey":
        return {"brightness": brightness, "contrast": contrast}
    jitter = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": 2 * math.pi * hue}
    return (jitter if is_jittered else {}) | ({"saturation": 0.0} if is_grey else {})


def apply_crops(pixels: Tensor, crops: Sequence[CropParams], *, size: int, light: bool = True) -> Tensor:
    """Cut views (B, 3, size, size) in [0, 1]; a view does not depend on the rest of the batch.

    Args:
        pixels: (B, 3, S, S) uint8, whole images squeezed to squares.
        crops: One per image.
        size: Side of the views.
        light: Apply the photometric parameters; without, geometry only, as for a Gram teacher.
    """
    views = _cut(pixels.float() / 255, crops, size)
    if not light:
        return views
    views = _jitter(views, crops)
    if any(crop.blur for crop in crops):
        views = _blur(views, crops)
    if any(crop.solarise for crop in crops):
        inverted = torch.where(views >= 0.5, 1 - views, views)
        views = torch.where(_per_view([float(crop.solarise) for crop in crops], views) > 0, inverted, views)
    return views


def _cut(images: Tensor, crops: Sequence[CropParams], size: int) -> Tensor:
    """Bicubic resampling; a crop that shrinks is cut from the image at 1/2, 1/4, ... of its size to avoid aliasing."""
    theta = to_device(torch.tensor([_affine_matrix(crop) for crop in crops]), images.device)
    grid = F.affine_grid(theta, [len(crops), 1, size, size], align_corners=False)
    levels = [_pyramid_level(crop, side=images.shape[-1], size=size) for crop in crops]
    views = images.new_empty(len(crops), images.shape[1], size, size)
    for level in sorted(set(levels)):
        rows = [row for row, row_level in enumerate(levels) if row_level == level]
        indices = to_device(torch.tensor(rows), images.device)
        source = images[indices]
        if level:
            source = F.interpolate(source, size=[images.shape[-1] >> level] * 2, mode="area")
        cut = F.grid_sample(source, grid[indices], mode="bicubic", padding_mode="border", align_corners=False)
        views = views.index_copy(0, indices, cut)
    return views.clamp(0, 1)


def _pyramid_level(crop: CropParams, *, side: int, size: int) -> int:
    """Number of times that the image is halved before cropping; the longer side decides."""
    factor = max(crop.width, crop.height) * side / size
    return max(0, min(round(math.log2(factor)), int(math.log2(side))))


def _affine_matrix(crop: CropParams) -> list[list[float]]:
    """From the view's to the image's coordinates in [-1, 1]."""
    sign = -1.0 if crop.flip else 1.0
    return [[sign * crop.width, 0.0, 2 * crop.x - 1], [0.0, crop.height, 2 * crop.y - 1]]


def _jitter(views: Tensor, crops: Sequence[CropParams]) -> Tensor:
    """Brightness, contrast and shift, saturation and hue; values are clipped to [0, 1] after each."""
    views = (views * _per_view([crop.brightness for crop in crops], views)).clamp(0, 1)
    mean = _to_grey(views).mean(dim=(1, 2, 3), keepdim=True)
    contrast = _per_view([crop.contrast for crop in crops], views)
    shift = _per_view([crop.shift for crop in crops], views)
    views = (mean + (views - mean) * contrast + shift).clamp(0, 1)
    if all(crop.saturation == 1 and crop.hue == 0 for crop in crops):
        return views
    matrices = to_device(torch.stack([_colour_matrix(crop) for crop in crops]), views.device)
    return torch.einsum("bij,bjhw->bihw", matrices, views).clamp(0, 1)


def _colour_matrix(crop: CropParams) -> Tensor:
    """(3, 3): rotates colours about the grey axis, then scales their distance from their own grey."""
    cos, sin = math.cos(crop.hue), math.sin(crop.hue) / math.sqrt(3)
    rotation = torch.full((3, 3), (1 - cos) / 3) + cos * torch.eye(3)
    rotation += sin * torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    grey = torch.tensor(_GREY_WEIGHTS).expand(3, 3)
    return (grey + crop.saturation * (torch.eye(3) - grey)) @ rotation


def _blur(views: Tensor, crops: Sequence[CropParams]) -> Tensor:
    """A separable Gaussian of nine taps, as DINO's; a standard deviation of 0 leaves a view unchanged."""
    batch, channels = views.shape[:2]
    sigma = _per_view([max(crop.blur, 1e-3) for crop in crops], views).view(-1, 1)
    x = torch.arange(_BLUR_TAPS, device=views.device, dtype=views.dtype) - _BLUR_TAPS // 2
    kernel = torch.softmax(-(x**2) / (2 * sigma**2), dim=1)
    kernel = kernel.repeat_interleave(channels, dim=0)[:, None, None, :]
    padded = F.pad(views, (_BLUR_TAPS // 2,) * 4, mode="replicate").flatten(0, 1)[None]
    groups = batch * channels
    blurred = F.conv2d(F.conv2d(padded, kernel, groups=groups), kernel.transpose(2, 3), groups=groups)
    return blurred.view_as(views)


def _to_grey(views: Tensor) -> Tensor:
    red, green, blue = _GREY_WEIGHTS
    return red * views[:, 0:1] + green * views[:, 1:2] + blue * views[:, 2:3]


def _per_view(values: Sequence[float], views: Tensor) -> Tensor:
    """One number per view as (B, 1, 1, 1) on the device of the views."""
    return to_device(torch.tensor(values, dtype=views.dtype), views.device).view(-1, 1, 1, 1)
