"""Data augmentation: draw parameters for each sample, then apply them to a batch on its device."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from guidino_cli.data.transforms import (
    add_noise,
    apply_gamma,
    apply_gamma_to_all_channels,
    blur,
    draw_noise,
    scale_brightness,
    scale_contrast,
    simulate_low_resolution,
    to_device,
    warp,
)

Level = Literal["none", "light", "mirror", "dihedral", "nnunet", "guidino", "nnunet-0.1"]
EXACT_LEVELS = frozenset({"mirror", "dihedral"})
"""Levels that interpolate no pixel, so that maps of the image as it is can be laid as the image is."""
T = TypeVar("T")
# One number, or one for each channel.
PerChannel = float | tuple[float, ...]


@dataclass(frozen=True)
class AugmentationParams:
    """Parameters for one sample; the defaults change nothing.

    The geometric ones are applied in one resampling, then the others in the order of this list. A number that may
    differ by channel is given once for all of them or as a tuple.

    Attributes:
        rotation: Radians, counter-clockwise; of a patch, in the plane of its slices.
        scale: Size of objects relative to before.
        shear: Angle of vertical lines in radians; positive angles lean to the right.
        shift_y: Downwards, as a share of the side.
        shift_x: To the right, as a share of the side.
        flip_y: Mirror top to bottom.
        flip_x: Mirror left to right.
        flip_z: Reverse the order of the slices of a patch.
        tilt_y: Rotation of a patch about the axis of its rows' order, in radians: slices and columns turn.
        tilt_x: Likewise about the axis of its columns' order: slices and rows turn.
        quarter_turns: Turns by 90 degrees, counter-clockwise; exactly, before the resampling.
        is_mirrored: Mirror left to right, likewise, after these turns.
        is_planar: Whether scale and low resolution leave the distance of the slices of a patch alone.
        elastic: Standard deviation of the displacements of an elastic deformation, as a share of the side.
        noise: Standard deviation of Gaussian noise, in units of the [0, 1] intensity range.
        seed: Random seed of the noise and the displacements.
        blur: Standard deviation of the Gaussian blur in pixels, by channel one along each axis.
        brightness: Factor on the intensities, by channel.
        contrast: Factor on the distance from the channel's mean, by channel.
        keeps_range: Whether contrast clips every channel to the range it had.
        offset: Added to the intensities, in units of the [0, 1] range, by channel.
        low_resolution: The channel is downsampled to this share of its size and upsampled again.
        gamma_inverted: Exponent, by channel, on the negative stretched to [0, 1]; mean and deviation are restored.
        gamma: Exponent, by channel, on the intensities stretched to [0, 1]; mean and deviation are restored.
        is_earlier: Whether low resolution is upsampled bicubically and `gamma` acts on all channels together without
            restoring anything, a negative one on the inverted image: as in guidino 0.1.0.
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
    blur: float | tuple[tuple[float, ...], ...] = 0.0
    brightness: PerChannel = 1.0
    contrast: PerChannel = 1.0
    keeps_range: bool = False
    low_resolution: PerChannel = 1.0
    gamma_inverted: PerChannel = 1.0
    gamma: PerChannel = 1.0
    is_earlier: bool = False
    flip_z: bool = False
    tilt_y: float = 0.0
    tilt_x: float = 0.0
    is_planar: bool = False
    quarter_turns: int = 0
    is_mirrored: bool = False
    offset: PerChannel = 0.0


class _RandomDraws:
    """Random draws for one sample, always the same number, so that one probability does not change later draws."""

    def __init__(self, generator: np.random.Generator, *, channels: int = 3) -> None:
        self._generator, self._channels = generator, channels

    def flip(self, probability: float = 0.5) -> bool:
        return bool(self._generator.random() < probability)

    def uniform(self, low: float, high: float) -> float:
        return float(self._generator.uniform(low, high))

    def uniform_or(self, probability: float, low: float, high: float, default: float = 0.0) -> float:
        value = self.uniform(low, high)
        return value if self.flip(probability) else default

    def around_one(self, low: float, high: float) -> float:
        """Below 1 and above 1 with equal probability, each uniformly."""
        below, above = self.uniform(low, 1), self.uniform(1, high)
        return below if self.flip() else above

    def by_channel_or(self, probability: float, draw: Callable[[], T], default: float) -> tuple[T, ...] | float:
        values = tuple(draw() for _ in range(self._channels))
        return values if self.flip(probability) else default

    def seed(self) -> int:
        return int(self._generator.integers(2**31))


_UNIT_DEVIATION = 0.225
"""Networks here see images in [0, 1] divided by ImageNet's deviation."""
# nnU-Net's 0.1 is that of an image of deviation 1.
_MAX_NOISE = 0.1 * _UNIT_DEVIATION
MAX_ANISOTROPY = 3.0
"""Longest side of a patch over its number of slices above which slices are moved each by itself (nnU-Net 2.8.1)."""


def draw_augmentation(
    level: Level, generator: np.random.Generator, *, channels: int = 3, patch_size: Sequence[int] | None = None
) -> AugmentationParams:
    """Draw the parameters of one sample.

    Args:
        level: "light" mirrors and changes brightness; "dihedral" mirrors and turns by quarters, so that no pixel is
            interpolated, and changes contrast, brightness and colour; "mirror" does so without the turns. "nnunet" is
            what nnU-Net 2.8.1 draws for square patches in two dimensions, see `_draw_nnunet`; "nnunet-0.1" is guidino
            0.1.0's reading of it, for runs begun with that. "guidino" follows the GuiDINO authors' code: rotation by 90
            degrees, affine, elastic, brightness and contrast, noise, blur; noise of 3 to 7 grey levels, as in an
            earlier version.
        generator: Random generator of this sample and epoch.
        channels: C of the sample.
        patch_size: D, H, W of a patch of a volume, for which there are "none", "light" and "nnunet"; None for an image.
    """
    if level == "none":
        return AugmentationParams()
    draws = _RandomDraws(generator, channels=channels)
    if patch_size is not None:
        return _draw_light_3d(draws) if level == "light" else _draw_nnunet_3d(draws, patch_size)
    draw: dict[str, Callable[[_RandomDraws], AugmentationParams]] = {
        "light": _draw_light,
        "mirror": partial(_draw_dihedral, channels=channels, has_turns=False),
        "dihedral": partial(_draw_dihedral, channels=channels, has_turns=True),
        "nnunet": _draw_nnunet,
        "guidino": _draw_guidino,
        "nnunet-0.1": _draw_earlier_nnunet,
    }
    return draw[level](draws)


def _draw_dihedral(draws: _RandomDraws, *, channels: int, has_turns: bool) -> AugmentationParams:
    """One of the eight ways to lay a square onto itself, or of two, and what another lamp or camera would change."""
    turns, is_mirrored = int(draws.uniform(0, 4)) if has_turns else 0, draws.flip()
    contrast, brightness = draws.uniform(0.7, 1.3), draws.uniform(-0.2, 0.2)
    offset = tuple(brightness + draws.uniform(-0.1, 0.1) for _ in range(channels))
    return AugmentationParams(quarter_turns=turns, is_mirrored=is_mirrored, contrast=contrast, offset=offset)


def _draw_light(draws: _RandomDraws) -> AugmentationParams:
    return AugmentationParams(flip_y=draws.flip(), flip_x=draws.flip(), brightness=draws.uniform(0.8, 1.2))


def _draw_nnunet(draws: _RandomDraws, *, axes: int = 2) -> AugmentationParams:
    """Transforms and probabilities of nnU-Net 2.8.1's default trainer, which are those of batchgeneratorsv2 0.3.6.

    What nnU-Net calls variance of the noise it uses as standard deviation. Its scale of 0.7 to 1.4 divides objects.
    Each channel has its own numbers; blur and low resolution leave each channel alone with probability 1/2.
    """

    def blur_or_leave() -> tuple[float, ...]:
        sigmas = tuple(draws.uniform(0.5, 1.0) for _ in range(axes))
        return sigmas if draws.flip() else (0.0,) * axes

    return AugmentationParams(
        flip_y=draws.flip(),
        flip_x=draws.flip(),
        rotation=draws.uniform_or(0.2, -math.pi, math.pi),
        scale=1 / draws.uniform_or(0.2, 0.7, 1.4, 1.0),
        noise=draws.uniform_or(0.1, 0.0, _MAX_NOISE),
        seed=draws.seed(),
        blur=draws.by_channel_or(0.2, blur_or_leave, 0.0),
        brightness=draws.by_channel_or(0.15, lambda: draws.around_one(0.75, 1.25), 1.0),
        contrast=draws.by_channel_or(0.15, lambda: draws.around_one(0.75, 1.25), 1.0),
        keeps_range=True,
        low_resolution=draws.by_channel_or(0.25, lambda: draws.uniform_or(0.5, 0.5, 1.0, 1.0), 1.0),
        gamma_inverted=draws.by_channel_or(0.1, lambda: draws.around_one(0.7, 1.5), 1.0),
        gamma=draws.by_channel_or(0.3, lambda: draws.around_one(0.7, 1.5), 1.0),
    )


def _draw_light_3d(draws: _RandomDraws) -> AugmentationParams:
    return AugmentationParams(
        flip_z=draws.flip(), flip_y=draws.flip(), flip_x=draws.flip(), brightness=draws.uniform(0.8, 1.2)
    )


def _draw_nnunet_3d(draws: _RandomDraws, patch_size: Sequence[int]) -> AugmentationParams:
    """Draw nnU-Net 2.8.1's augmentation of patches: as for images, but with other rotations.

    Patches of few slices, whose longest side is more than three times the first, are rotated by any angle and scaled
    slice by slice (nnU-Net's "dummy 2-D"); others by up to 30 degrees about each axis.
    """
    is_planar = max(patch_size) > MAX_ANISOTROPY * patch_size[0]
    limit = math.pi if is_planar else math.radians(30)
    angles = [draws.uniform(-limit, limit) for _ in range(3)]
    is_rotated = draws.flip(0.2)
    plane = _draw_nnunet(draws, axes=3)
    return replace(
        plane,
        flip_z=draws.flip(),
        rotation=angles[0] if is_rotated else 0.0,
        tilt_y=angles[1] if is_rotated and not is_planar else 0.0,
        tilt_x=angles[2] if is_rotated and not is_planar else 0.0,
        is_planar=is_planar,
    )


def _draw_earlier_nnunet(draws: _RandomDraws) -> AugmentationParams:
    """Draw guidino 0.1.0's version of "nnunet", in its order, so that its interrupted runs continue unchanged."""
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
        is_earlier=True,
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


def augment_batch(
    image: Tensor,
    mask: Tensor,
    augmentations: Sequence[AugmentationParams],
    *,
    is_unit: bool = True,
    noise: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor]:
    """Augment a batch; the result of a sample does not depend on the others in the batch.

    Args:
        image: (B, C, H, W), H = W, or (B, C, D, H, W) of any sides.
        mask: (B, H, W) or (B, D, H, W) class indices.
        augmentations: Parameters of each sample.
        is_unit: Whether the image is in [0, 1] and stays so; z-scores are not clipped, and their noise is as much
            stronger as their deviation, 1, is larger.
        noise: That of each sample with noise (`draw_noise`), in their order; drawn here if there is none.

    Returns:
        Image and mask of the same shapes; outside the image both are 0, and the mask gets no other new value.
    """
    image, mask = orient(image, augmentations), orient(mask, augmentations)
    image, mask = _warp(image, mask, augmentations)
    if not is_unit:
        augmentations = [_of_unit_deviation(a, image.shape[1]) for a in augmentations]
    for name, change in (_INTENSITY_TRANSFORMS | {"noise": partial(_add_noise, drawn=noise)}).items():
        rows = [i for i, a in enumerate(augmentations) if getattr(a, name) != getattr(_IDENTITY, name)]
        if rows:
            where = to_device(torch.tensor(rows), image.device)
            image = image.index_copy(0, where, change(image[where], [augmentations[i] for i in rows]))
    return image.clamp(0, 1) if is_unit else image, mask


def orient(maps: Tensor, augmentations: Sequence[AugmentationParams]) -> Tensor:
    """Turn maps (B, ..., H, W) of square images by quarters and mirror them, of any grid that covers the images."""
    if not any(a.quarter_turns or a.is_mirrored for a in augmentations):
        return maps
    return torch.stack([_orient_one(item, a) for item, a in zip(maps, augmentations, strict=True)])


def _orient_one(maps: Tensor, a: AugmentationParams) -> Tensor:
    turned = torch.rot90(maps, a.quarter_turns, (-2, -1))
    return turned.flip(-1) if a.is_mirrored else turned


def _of_unit_deviation(a: AugmentationParams, channels: int) -> AugmentationParams:
    """Noise and offset of images of deviation 1 instead of that of images in [0, 1]."""
    if not a.noise and a.offset == _IDENTITY.offset:
        return a
    each = a.offset if isinstance(a.offset, tuple) else (a.offset,) * channels
    return replace(a, noise=a.noise / _UNIT_DEVIATION, offset=tuple(value / _UNIT_DEVIATION for value in each))


def _warp(image: Tensor, mask: Tensor, augmentations: Sequence[AugmentationParams]) -> tuple[Tensor, Tensor]:
    to_matrix = _inverse_affine if image.ndim == 4 else partial(_inverse_affine_3d, size=image.shape[2:])
    identity = to_matrix(_IDENTITY)
    rows = [i for i, a in enumerate(augmentations) if a.elastic or to_matrix(a) != identity]
    if not rows:
        return image, mask
    params, where = [augmentations[i] for i in rows], to_device(torch.tensor(rows), image.device)
    matrices = to_device(torch.tensor([to_matrix(a) for a in params], dtype=image.dtype), image.device)
    # The displacements must not follow the noise, which has the same seed.
    pixels, labels = warp(
        image[where], mask[where], matrices, elastic=[a.elastic for a in params], seeds=[a.seed + 1 for a in params]
    )
    return image.index_copy(0, where, pixels), mask.index_copy(0, where, labels)


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


def _inverse_affine_3d(a: AugmentationParams, size: Sequence[int]) -> list[list[float]]:
    """(3, 4) from output to input coordinates in [-1, 1], in the order x, y, z: inverse of flips, scale and rotations.

    Rotations are those of voxels: in coordinates of [-1, 1] all sides are equal, so a patch would be sheared.
    """
    turns = _turn(a.rotation, 0, 1) @ _turn(a.tilt_y, 0, 2) @ _turn(a.tilt_x, 1, 2)
    scales = np.diag([1 / a.scale, 1 / a.scale, 1.0 if a.is_planar else 1 / a.scale])
    flips = np.diag([-1.0 if flip else 1.0 for flip in (a.flip_x, a.flip_y, a.flip_z)])
    sides = np.array(size[::-1], dtype=float)
    linear = flips @ scales @ turns * sides / sides[:, None]
    matrix: list[list[float]] = np.column_stack([linear, np.zeros(3)]).tolist()
    return matrix


def _turn(angle: float, first: int, second: int) -> np.ndarray:
    """(3, 3) rotation in the plane of two axes, as `_inverse_affine` turns x and y."""
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
    return matrix


def _add_noise(image: Tensor, params: Sequence[AugmentationParams], *, drawn: Sequence[Tensor] = ()) -> Tensor:
    noise = drawn or [draw_noise(image.shape[1:], a.seed) for a in params]
    return add_noise(image, _on_device([(a.noise,) for a in params], image), noise)


def _blur(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    channels, axes = image.shape[1], image.ndim - 2
    sigmas = [a.blur if isinstance(a.blur, tuple) else ((a.blur,) * axes,) * channels for a in params]
    return blur(image, torch.tensor(sigmas))


def _scale_brightness(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    return scale_brightness(image, _channels([a.brightness for a in params], image))


def _scale_contrast(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    keep_range = to_device(torch.tensor([[a.keeps_range] for a in params]), image.device)
    return scale_contrast(image, _channels([a.contrast for a in params], image), keep_range=keep_range)


def _add_offset(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    offsets = _channels([a.offset for a in params], image)
    return image + offsets[(..., *(None,) * (image.ndim - 2))]


def _simulate_low_resolution(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    shares = [_by_channel(a.low_resolution, image) for a in params]
    return simulate_low_resolution(
        image,
        shares,
        modes=["bicubic" if a.is_earlier else "bilinear" for a in params],
        keep_slices=[a.is_planar for a in params],
    )


def _apply_inverted_gamma(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    return apply_gamma(image, _channels([a.gamma_inverted for a in params], image), inverted=True)


def _apply_gamma(image: Tensor, params: Sequence[AugmentationParams]) -> Tensor:
    exponents = _channels([a.gamma for a in params], image)
    earlier = to_device(torch.tensor([a.is_earlier for a in params]), image.device)
    earlier = earlier[(..., *(None,) * (image.ndim - 1))]
    together = apply_gamma_to_all_channels(image, exponents[:, :1])
    return torch.where(earlier, together, apply_gamma(image, exponents.abs(), inverted=False))


_INTENSITY_TRANSFORMS: dict[str, Callable[[Tensor, Sequence[AugmentationParams]], Tensor]] = {
    "noise": _add_noise,
    "blur": _blur,
    "brightness": _scale_brightness,
    "contrast": _scale_contrast,
    "offset": _add_offset,
    "low_resolution": _simulate_low_resolution,
    "gamma_inverted": _apply_inverted_gamma,
    "gamma": _apply_gamma,
}


def _by_channel(value: PerChannel, image: Tensor) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,) * image.shape[1]


def _channels(values: Sequence[PerChannel], image: Tensor) -> Tensor:
    """(B, C) numbers in the image's type and on its device."""
    return _on_device([_by_channel(value, image) for value in values], image)


def _on_device(rows: Sequence[Sequence[float]], image: Tensor) -> Tensor:
    return to_device(torch.tensor(rows, dtype=image.dtype), image.device)
