"""Random crops: drawn for each image, epoch and view, then cut from a batch on its device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Light = Literal["photo", "grey", "window", "none"]

_SHAPES = (3 / 4, 4 / 3)
_ATTEMPTS = 10


@dataclass(frozen=True)
class CropDistribution:
    """Which crops a view is drawn from. Defaults: the first global crop of DINOv2 and DINOv3.

    Attributes:
        area: Smallest and largest share of the image's area.
        flip: Probability of mirroring left to right.
        blur: Probability of a blur of standard deviation 0.1 to 2 pixels.
        solarise: Probability of inverting what is brighter than the middle; for photographs only.
        light: "photo" changes brightness, contrast, saturation and hue, "grey" only the first two, "window" shifts and
            stretches intensities as another choice of level and width of a CT or MR window does, "none" nothing.
    """

    area: tuple[float, float] = (0.32, 1.0)
    flip: float = 0.5
    blur: float = 1.0
    solarise: float = 0.0
    light: Light = "photo"


@dataclass(frozen=True)
class CropParams:
    """A part of an image and what happens to it, in this order; by default the whole image as it is.

    Attributes:
        x: Of the centre, as a share of the image's width.
        y: Of the centre, as a share of its height.
        width: As a share of the image's width.
        height: As a share of its height.
        flip: Mirror left to right.
        brightness: Factor on the intensities.
        contrast: Factor on the distance from the crop's mean grey.
        saturation: Factor on the distance from grey; 0 makes it grey.
        hue: Radians by which colours turn about the axis of greys.
        shift: Added to the intensities.
        blur: Standard deviation in pixels of the view.
        solarise: Invert what is brighter than the middle.
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


def draw_crop(kind: CropDistribution, generator: np.random.Generator, *, aspect: float) -> CropParams:
    """Draw a crop.

    Args:
        kind: Which ones there are.
        generator: Of this image, epoch and view.
        aspect: Width over height of the image; crops are between 3:4 and 4:3 in the image's own pixels.
    """
    width, height = _sides(kind, generator, aspect)
    x, y = (side / 2 + generator.random() * (1 - side) for side in (width, height))
    flip = bool(generator.random() < kind.flip)
    sigma, is_blurred = generator.uniform(0.1, 2.0), generator.random() < kind.blur
    is_solarised = bool(generator.random() < kind.solarise) and kind.light == "photo"
    return CropParams(
        x=x,
        y=y,
        width=width,
        height=height,
        flip=flip,
        blur=float(sigma) if is_blurred else 0.0,
        solarise=is_solarised,
        **_light(kind.light, generator),
    )


def _sides(kind: CropDistribution, generator: np.random.Generator, aspect: float) -> tuple[float, float]:
    """Width and height as shares; where no shape of the wanted area fits, the largest part of a fitting shape."""
    low, high = math.log(_SHAPES[0]), math.log(_SHAPES[1])
    for _ in range(_ATTEMPTS):
        area, shape = generator.uniform(*kind.area), math.exp(generator.uniform(low, high))
        width, height = math.sqrt(area * shape / aspect), math.sqrt(area / shape * aspect)
        if width <= 1 and height <= 1:
            return width, height
    shape = min(max(aspect, _SHAPES[0]), _SHAPES[1])
    return min(1.0, shape / aspect), min(1.0, aspect / shape)


def _light(light: Light, generator: np.random.Generator) -> dict[str, float]:
    """Always the same number of draws, so that one kind of light does not move what is drawn later."""
    happens, is_grey = generator.random() < 0.8, generator.random() < 0.2
    brightness, contrast, saturation = (float(generator.uniform(1 - by, 1 + by)) for by in (0.4, 0.4, 0.2))
    hue, shift = float(generator.uniform(-0.1, 0.1)), float(generator.uniform(-0.15, 0.15))
    if light == "none" or (not happens and light != "photo"):
        return {}
    if light == "window":
        return {"contrast": contrast, "shift": shift}
    if light == "grey":
        return {"brightness": brightness, "contrast": contrast}
    jitter = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": 2 * math.pi * hue}
    return (jitter if happens else {}) | ({"saturation": 0.0} if is_grey else {})


_GREY = (0.299, 0.587, 0.114)
_TAPS = 9


def apply_crops(pixels: Tensor, crops: Sequence[CropParams], *, size: int, light: bool = True) -> Tensor:
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


def _cut(images: Tensor, crops: Sequence[CropParams], size: int) -> Tensor:
    """Bicubic; a crop that shrinks is cut out of a copy of half, a quarter, ... of the size, else it would alias."""
    theta = move_to_device(torch.tensor([_matrix(crop) for crop in crops]), images.device)
    grid = F.affine_grid(theta, [len(crops), 1, size, size], align_corners=False)
    levels = [_level(crop, side=images.shape[-1], size=size) for crop in crops]
    views = images.new_empty(len(crops), images.shape[1], size, size)
    for level in sorted(set(levels)):
        rows = move_to_device(torch.tensor([row for row, its in enumerate(levels) if its == level]), images.device)
        chosen = images[rows]
        if level:
            chosen = F.interpolate(chosen, size=[images.shape[-1] >> level] * 2, mode="area")
        cut = F.grid_sample(chosen, grid[rows], mode="bicubic", padding_mode="border", align_corners=False)
        views = views.index_copy(0, rows, cut)
    return views.clamp(0, 1)


def _level(crop: CropParams, *, side: int, size: int) -> int:
    """How often the image is halved before the crop is cut out of it; the longer side decides."""
    shrinks = max(crop.width, crop.height) * side / size
    return max(0, min(round(math.log2(shrinks)), int(math.log2(side))))


def _matrix(crop: CropParams) -> list[list[float]]:
    """From the view's to the image's coordinates in [-1, 1]."""
    mirrored = -1.0 if crop.flip else 1.0
    return [[mirrored * crop.width, 0.0, 2 * crop.x - 1], [0.0, crop.height, 2 * crop.y - 1]]


def _coloured(views: Tensor, crops: Sequence[CropParams]) -> Tensor:
    """Brightness and shift, contrast, saturation and hue; between them, values stay in [0, 1]."""
    views = (views * _column([crop.brightness for crop in crops], views)).clamp(0, 1)
    mean = _grey(views).mean(dim=(1, 2, 3), keepdim=True)
    contrast, shift = (_column(values, views) for values in zip(*((c.contrast, c.shift) for c in crops), strict=True))
    views = (mean + (views - mean) * contrast + shift).clamp(0, 1)
    if all(crop.saturation == 1 and crop.hue == 0 for crop in crops):
        return views
    mixing = move_to_device(torch.stack([_mixing(crop) for crop in crops]), views.device)
    return torch.einsum("bij,bjhw->bihw", mixing, views).clamp(0, 1)


def _mixing(crop: CropParams) -> Tensor:
    """(3, 3): turns colours about the axis of greys, then brings them nearer to or farther from their own grey."""
    cos, sin = math.cos(crop.hue), math.sin(crop.hue) / math.sqrt(3)
    turn = torch.full((3, 3), (1 - cos) / 3) + cos * torch.eye(3)
    turn += sin * torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    grey = torch.tensor(_GREY).expand(3, 3)
    return (grey + crop.saturation * (torch.eye(3) - grey)) @ turn


def _blurred(views: Tensor, crops: Sequence[CropParams]) -> Tensor:
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
    return move_to_device(torch.tensor(values, dtype=views.dtype), views.device).view(-1, 1, 1, 1)


def move_to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Bring to the device without waiting for what it is doing: only pinned memory is copied in the background."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
