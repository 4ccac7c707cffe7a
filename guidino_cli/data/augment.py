"""What may happen to a training sample: the parameters of its geometry and intensity, drawn for each case and epoch."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Level = Literal["none", "light", "nnunet", "guidino"]


@dataclass(frozen=True)
class Augmentation:
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


class _Dice:
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


def draw(level: Level, generator: np.random.Generator) -> Augmentation:
    """Draw the parameters of one sample.

    Args:
        level: "light" mirrors and changes brightness. "nnunet" is nnU-Net v2's two-dimensional set with its
            probabilities (Isensee et al. 2021, supplement), noise up to variance 0.1 of a z-scored image taken as 0.07
            of the intensity range. "guidino" follows the list in the GuiDINO authors' code: quarter turns, affine,
            elastic, brightness and contrast, noise, blur; its noise is of the 3 to 7 grey levels that list once had.
        generator: Of this sample and epoch.
    """
    if level == "none":
        return Augmentation()
    dice = _Dice(generator)
    return {"light": _light, "nnunet": _nnunet, "guidino": _guidino}[level](dice)


def _light(dice: _Dice) -> Augmentation:
    return Augmentation(flip_y=dice.flip(), flip_x=dice.flip(), brightness=dice.between(0.8, 1.2))


def _nnunet(dice: _Dice) -> Augmentation:
    gamma = dice.sometimes(0.3, 0.7, 1.5, 1.0)
    return Augmentation(
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


def _guidino(dice: _Dice) -> Augmentation:
    quarters = math.pi / 2 * round(dice.sometimes(0.25, 0.5, 3.5))
    is_affine, is_lit = dice.flip(0.2), dice.flip(0.2)
    lean, turn = math.radians(10), math.radians(30)
    scale, brightness, contrast = dice.between(0.7, 1.4), dice.between(0.8, 1.2), dice.between(0.8, 1.2)
    return Augmentation(
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
