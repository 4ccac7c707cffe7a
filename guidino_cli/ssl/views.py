"""Multi-crop views of a batch for student and teachers, with block masks of patches."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from guidino_cli.device_transfer import to_device
from guidino_cli.pretrain_config import CropSizes, PretrainConfig, StageSettings
from guidino_cli.ssl.crops import CropDistribution, CropParams, apply_crops, draw_crop
from guidino_cli.ssl.objective import PretrainProgress
from guidino_cli.types import UnlabelledSample

_MIN_BLOCK_PATCHES = 4
_ASPECT_RANGE = (0.3, 1 / 0.3)
_ATTEMPTS = 10
# Last words of seeds, above all view indices.
_MASK_SEED, _SIZE_SEED = 1000, 1001


def spread_mask_ratios(views: int, *, masked: float, ratio: tuple[float, float]) -> list[float]:
    """Mask ratio of each view of a batch; 0 for views without a mask.

    The range is divided into as many equal parts as there are masked views, and each view takes the upper end of one,
    as in DINOv3's code, so that every batch hides the same number of patches (DINOv2 draws a ratio within each part).

    Args:
        views: V.
        masked: Share of the views that are masked; at least one is, unless it is 0.
        ratio: Lowest and highest mask ratio.
    """
    count = 0 if masked == 0 else max(1, round(views * masked))
    low, high = ratio
    return [low + (high - low) * (number + 1) / count for number in range(count)] + [0.0] * (views - count)


def draw_mask(generator: np.random.Generator, *, grid_hw: tuple[int, int], count: int) -> np.ndarray:
    """Booleans (h, w), exactly `count` of them true: block masking as in BEiT (Bao et al. 2022, algorithm 1).

    Blocks of at least four patches and of an aspect ratio between 0.3 and 1 / 0.3 are added until no other fits; single
    random patches fill up the rest, as in DINOv2.
    """
    mask = np.zeros(grid_hw, dtype=bool)
    while mask.sum() < count and _add_block(mask, generator, most=count - int(mask.sum())):
        pass
    visible = np.flatnonzero(~mask)
    missing = count - int(mask.sum())
    if missing > 0:
        mask.flat[generator.choice(visible, size=missing, replace=False)] = True
    return mask


def count_masked(ratio: float, *, patches: int) -> int:
    """Number of patches to mask: at least one unless the ratio is 0, and never all."""
    return 0 if ratio == 0 else min(max(1, int(ratio * patches)), patches - 1)


def draw_masks(
    generators: Sequence[np.random.Generator], ratios: Sequence[float], *, grid_hw: tuple[int, int]
) -> np.ndarray:
    """Booleans (V, h w), one row per view."""
    patches = math.prod(grid_hw)
    rows = [
        draw_mask(generator, grid_hw=grid_hw, count=count_masked(ratio, patches=patches)).ravel()
        for generator, ratio in zip(generators, ratios, strict=True)
    ]
    return np.stack(rows)


def _add_block(mask: np.ndarray, generator: np.random.Generator, *, most: int) -> bool:
    """Mask a block that adds between one and `most` patches; False if ten attempts fail."""
    height, width = mask.shape
    low, high = math.log(_ASPECT_RANGE[0]), math.log(_ASPECT_RANGE[1])
    for _ in range(_ATTEMPTS):
        area = generator.uniform(_MIN_BLOCK_PATCHES, max(_MIN_BLOCK_PATCHES, most))
        aspect = math.exp(generator.uniform(low, high))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if not (0 < h < height and 0 < w < width):
            continue
        top, left = generator.integers(height - h + 1), generator.integers(width - w + 1)
        block = mask[top : top + h, left : left + w]
        if 0 < (~block).sum() <= most:
            block[:] = True
            return True
    return False


class MultiCropViews(NamedTuple):
    """Views of B images, ordered by view: the first view of all images, then the second, and so on.

    Attributes:
        global_crops: (2 B, 3, G, G), two per image.
        local_crops: (L B, 3, l, l), or None without any.
        mask: (2 B, P) booleans, patches of the global crops that are hidden from the student.
        masked_indices: (M,) positions of these in the flattened (2 B P) patches.
        mask_weights: (M,) 1 / number of masked patches in the same view.
        gram_crops: (2 B, 3, g, g), larger global crops without photometric changes for the Gram teacher, or None.
        gram_weight: Weight of the Gram term.
    """

    global_crops: Tensor
    local_crops: Tensor | None
    mask: Tensor
    masked_indices: Tensor
    mask_weights: Tensor
    gram_crops: Tensor | None
    gram_weight: float


def make_views(
    images: UnlabelledSample, config: PretrainConfig, *, progress: PretrainProgress, patch_size: int
) -> MultiCropViews:
    """Draw and cut the views of a batch; they depend on the seed, the step, the epoch and the images alone.

    Args:
        images: Pixels on the device, the other fields in main memory.
        config: Settings of the run.
        progress: Position in the run.
        patch_size: Pixels per patch of the student.
    """
    stage, _ = config.stage_at(progress.step)
    sizes, seed = draw_crop_sizes(stage, progress), progress.seed
    *global_kinds, local_kind = _view_distributions(config, stage)
    global_crops = [_draw_crops(images, kind, seed=seed, view=view) for view, kind in enumerate(global_kinds)]
    local_crops = [_draw_crops(images, local_kind, seed=seed, view=2 + view) for view in range(config.dino.local_count)]
    mask = _draw_batch_masks(images, config, seed=seed, side=sizes.global_size // patch_size)
    weights = np.repeat(1 / mask.sum(axis=1).clip(min=1), mask.sum(axis=1)).astype(np.float32)
    device, gram_size = images.pixels.device, sizes.gram_size or 2 * sizes.global_size
    return MultiCropViews(
        global_crops=_cut(images, global_crops, size=sizes.global_size),
        local_crops=_cut(images, local_crops, size=sizes.local_size) if local_crops else None,
        mask=to_device(torch.from_numpy(mask), device),
        masked_indices=to_device(torch.from_numpy(np.flatnonzero(mask)), device),
        mask_weights=to_device(torch.from_numpy(weights), device),
        gram_crops=_cut(images, global_crops, size=gram_size, light=False) if stage.gram else None,
        gram_weight=stage.gram,
    )


def draw_crop_sizes(stage: StageSettings, progress: PretrainProgress) -> CropSizes:
    """One of the crop sizes of a stage by their weights, the same in all processes."""
    generator = np.random.default_rng([progress.seed, progress.step, _SIZE_SEED])
    weights = np.array([sizes.weight for sizes in stage.crops])
    return stage.crops[int(generator.choice(len(weights), p=weights / weights.sum()))]


def _view_distributions(
    config: PretrainConfig, stage: StageSettings
) -> tuple[CropDistribution, CropDistribution, CropDistribution]:
    """Both global views and the local ones: the first is always blurred, the second rarely, and sometimes solarised."""
    data, dino = config.data, config.dino
    flip = data.flip if stage.flip is None else stage.flip
    first = CropDistribution(area=dino.global_area, flip=flip, light=data.light)
    return first, replace(first, blur=0.1, solarise=0.2), replace(first, area=dino.local_area, blur=0.5)


def _draw_crops(images: UnlabelledSample, distribution: CropDistribution, *, seed: int, view: int) -> list[CropParams]:
    rows = zip(images.epoch.tolist(), images.image_index.tolist(), images.aspect.tolist(), strict=True)
    return [
        draw_crop(distribution, np.random.default_rng([seed, epoch, index, view]), aspect=aspect)
        for epoch, index, aspect in rows
    ]


def _cut(images: UnlabelledSample, views: Sequence[list[CropParams]], *, size: int, light: bool = True) -> Tensor:
    return torch.cat([apply_crops(images.pixels, crops, size=size, light=light) for crops in views])


def _draw_batch_masks(images: UnlabelledSample, config: PretrainConfig, *, seed: int, side: int) -> np.ndarray:
    """Booleans (2 B, P); which views are masked, and how much, is drawn for the batch."""
    rows = list(zip(images.epoch.tolist(), images.image_index.tolist(), strict=True))
    ratios = spread_mask_ratios(2 * len(rows), masked=config.dino.masked, ratio=config.dino.mask_ratio)
    order = np.random.default_rng([seed, *rows[0], _MASK_SEED]).permutation(len(ratios))
    generators = [
        np.random.default_rng([seed, epoch, index, view, _MASK_SEED]) for view in range(2) for epoch, index in rows
    ]
    return draw_masks(generators, [ratios[number] for number in order], grid_hw=(side, side))
