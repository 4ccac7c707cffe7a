"""Views of a batch for student and teachers: crops, and masked patches."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from guidino_cli.pretrain_config import CropSizes, PretrainConfig, StageSettings
from guidino_cli.ssl.crops import CropDistribution, CropParams, apply_crops, draw_crop, move_to_device
from guidino_cli.ssl.objective import PretrainProgress
from guidino_cli.types import UnlabelledSample

_SMALLEST = 4
_SHAPES = (0.3, 1 / 0.3)
_ATTEMPTS = 10


def spread_mask_ratios(views: int, *, masked: float, ratio: tuple[float, float]) -> list[float]:
    """Of each view of a batch, the share of patches to hide: 0 for those that are shown whole.

    The ratio's range is cut into as many parts as there are masked views, and every view takes the middle of one, so
    that a batch always hides about the same (DINOv2 draws one within each part).

    Args:
        views: V.
        masked: Share of the views that are masked; at least one is, if it is not 0.
        ratio: Lowest and highest share.
    """
    count = 0 if masked == 0 else max(1, round(views * masked))
    low, high = ratio
    return [low + (high - low) * (number + 0.5) / count for number in range(count)] + [0.0] * (views - count)


def draw_mask(generator: np.random.Generator, *, grid_hw: tuple[int, int], hidden: int) -> np.ndarray:
    """Booleans (h, w), exactly `hidden` of them true: rectangles as in BEiT (Bao et al. 2022, algorithm 1).

    Rectangles of at least four patches and of a shape between 0.3 and 1 / 0.3 are laid over each other until no other
    fits; what is missing then is completed by patches drawn one by one, as in DINOv2.
    """
    mask = np.zeros(grid_hw, dtype=bool)
    while mask.sum() < hidden and _lay(mask, generator, most=hidden - int(mask.sum())):
        pass
    visible = np.flatnonzero(~mask)
    missing = hidden - int(mask.sum())
    if missing > 0:
        mask.flat[generator.choice(visible, size=missing, replace=False)] = True
    return mask


def count_masked(share: float, *, patches: int) -> int:
    """Patches to hide, at least one where the share is not 0, and never all."""
    return 0 if share == 0 else min(max(1, int(share * patches)), patches - 1)


def draw_masks(
    generators: Sequence[np.random.Generator], shares: Sequence[float], *, grid_hw: tuple[int, int]
) -> np.ndarray:
    """Booleans (V, h w), one row a view."""
    patches = math.prod(grid_hw)
    rows = [
        draw_mask(generator, grid_hw=grid_hw, hidden=count_masked(share, patches=patches)).ravel()
        for generator, share in zip(generators, shares, strict=True)
    ]
    return np.stack(rows)


def _lay(mask: np.ndarray, generator: np.random.Generator, *, most: int) -> bool:
    """Hide a rectangle that hides between one and `most` patches more; False if none of ten does."""
    height, width = mask.shape
    low, high = math.log(_SHAPES[0]), math.log(_SHAPES[1])
    for _ in range(_ATTEMPTS):
        area, shape = generator.uniform(_SMALLEST, max(_SMALLEST, most)), math.exp(generator.uniform(low, high))
        h, w = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if not (0 < h < height and 0 < w < width):
            continue
        top, left = generator.integers(height - h + 1), generator.integers(width - w + 1)
        part = mask[top : top + h, left : left + w]
        if 0 < (~part).sum() <= most:
            part[:] = True
            return True
    return False


# Last words of the seeds, beside the numbers of the views.
_MASKS, _SIZES = 1000, 1001


class MultiCropViews(NamedTuple):
    """Of B images. Views of the same number lie together: first the first view of all images, then the second.

    Attributes:
        whole: (2 B, 3, G, G), two global crops of each image.
        parts: (L B, 3, l, l), local crops, or None without any.
        mask: (2 B, P) booleans, what the student does not see of the global crops.
        masked: (M,) where these are in the flattened (2 B P) patches.
        mask_weights: (M,) 1 over the number of masked patches in the same view.
        gram: (2 B, 3, g, g), the global crops for the Gram teacher: larger, in the light of the source. None without.
        gram_weight: Of that term.
    """

    whole: Tensor
    parts: Tensor | None
    mask: Tensor
    masked: Tensor
    mask_weights: Tensor
    gram: Tensor | None
    gram_weight: float


def make_views(images: UnlabelledSample, config: PretrainConfig, *, at: PretrainProgress, patch: int) -> MultiCropViews:
    """Views that depend on the seed, the step and what is shown only.

    Args:
        images: Pixels on the device, the numbers beside them in main memory.
        config: Of the run.
        at: Where the run stands.
        patch: Pixels of the backbone's patch.
    """
    stage, _ = config.stage_at(at.step)
    sizes = draw_crop_sizes(stage, np.random.default_rng([at.seed, at.step, _SIZES]))
    count = config.dino.local_count
    whole = [_crops(images, kind, seed=at.seed, view=view) for view, kind in enumerate(_whole_kinds(config))]
    parts = [_crops(images, _part_kind(config), seed=at.seed, view=2 + view) for view in range(count)]
    mask = _mask(images, config, seed=at.seed, side=sizes.global_size // patch)
    device = images.pixels.device
    places = np.flatnonzero(mask)
    weights = np.repeat(1 / mask.sum(axis=1).clip(min=1), mask.sum(axis=1)).astype(np.float32)
    return MultiCropViews(
        whole=_cut(images, whole, size=sizes.global_size),
        parts=_cut(images, parts, size=sizes.local_size) if count else None,
        mask=move_to_device(torch.from_numpy(mask), device),
        masked=move_to_device(torch.from_numpy(places), device),
        mask_weights=move_to_device(torch.from_numpy(weights), device),
        gram=_cut(images, whole, size=sizes.gram_size or 2 * sizes.global_size, light=False) if stage.gram else None,
        gram_weight=stage.gram,
    )


def draw_crop_sizes(stage: StageSettings, generator: np.random.Generator) -> CropSizes:
    """One of the sizes of a stage, by their weights; all processes draw the same."""
    weights = np.array([sizes.weight for sizes in stage.crops])
    return stage.crops[int(generator.choice(len(weights), p=weights / weights.sum()))]


def _whole_kinds(config: PretrainConfig) -> tuple[CropDistribution, CropDistribution]:
    """The first is always blurred; the second hardly ever, and sometimes solarised."""
    kind = CropDistribution(area=config.dino.global_area, flip=config.data.flip, light=config.data.light)
    return kind, replace(kind, blur=0.1, solarise=0.2)


def _part_kind(config: PretrainConfig) -> CropDistribution:
    return CropDistribution(area=config.dino.local_area, flip=config.data.flip, blur=0.5, light=config.data.light)


def _crops(images: UnlabelledSample, kind: CropDistribution, *, seed: int, view: int) -> list[CropParams]:
    shown = zip(images.epoch.tolist(), images.image_index.tolist(), images.aspect.tolist(), strict=True)
    return [
        draw_crop(kind, np.random.default_rng([seed, epoch, index, view]), aspect=aspect)
        for epoch, index, aspect in shown
    ]


def _cut(images: UnlabelledSample, views: Sequence[list[CropParams]], *, size: int, light: bool = True) -> Tensor:
    return torch.cat([apply_crops(images.pixels, crops, size=size, light=light) for crops in views])


def _mask(images: UnlabelledSample, config: PretrainConfig, *, seed: int, side: int) -> np.ndarray:
    """Booleans (2 B, P); which views are masked, and how much, is drawn for the batch."""
    showings = list(zip(images.epoch.tolist(), images.image_index.tolist(), strict=True))
    shares = spread_mask_ratios(2 * len(showings), masked=config.dino.masked, ratio=config.dino.mask_ratio)
    order = np.random.default_rng([seed, *showings[0], _MASKS]).permutation(len(shares))
    generators = [
        np.random.default_rng([seed, epoch, index, view, _MASKS]) for view in range(2) for epoch, index in showings
    ]
    return draw_masks(generators, [shares[number] for number in order], grid_hw=(side, side))
