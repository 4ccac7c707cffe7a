"""Which part of an image a view shows, and in what light: drawn for each image, epoch and view."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Light = Literal["photo", "grey", "window", "none"]

_SHAPES = (3 / 4, 4 / 3)
_ATTEMPTS = 10


@dataclass(frozen=True)
class Kind:
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
class Crop:
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


def draw(kind: Kind, generator: np.random.Generator, *, aspect: float) -> Crop:
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
    return Crop(
        x=x,
        y=y,
        width=width,
        height=height,
        flip=flip,
        blur=float(sigma) if is_blurred else 0.0,
        solarise=is_solarised,
        **_light(kind.light, generator),
    )


def _sides(kind: Kind, generator: np.random.Generator, aspect: float) -> tuple[float, float]:
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
