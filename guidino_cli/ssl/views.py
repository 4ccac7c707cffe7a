"""What student and teachers are shown of a batch: crops, and which patches of them are hidden."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from guidino_cli.pretrain_config import CropSizes, PretrainConfig, StageSettings
from guidino_cli.ssl.crops import Crop, Kind, draw
from guidino_cli.ssl.crops_batch import apply, on_device
from guidino_cli.ssl.masking import draw_masks, mask_shares
from guidino_cli.ssl.objective import Progress
from guidino_cli.types import Images

# Last words of the seeds, beside the numbers of the views.
_MASKS, _SIZES = 1000, 1001


class Views(NamedTuple):
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


def make_views(images: Images, config: PretrainConfig, *, at: Progress, patch: int) -> Views:
    """Views that depend on the seed, the step and what is shown only.

    Args:
        images: Pixels on the device, the numbers beside them in main memory.
        config: Of the run.
        at: Where the run stands.
        patch: Pixels of the backbone's patch.
    """
    stage, _ = config.stage_at(at.step)
    sizes = draw_sizes(stage, np.random.default_rng([at.seed, at.step, _SIZES]))
    count = config.dino.local_count
    whole = [_crops(images, kind, seed=at.seed, view=view) for view, kind in enumerate(_whole_kinds(config))]
    parts = [_crops(images, _part_kind(config), seed=at.seed, view=2 + view) for view in range(count)]
    mask = _mask(images, config, seed=at.seed, side=sizes.global_size // patch)
    device = images.pixels.device
    places = np.flatnonzero(mask)
    weights = np.repeat(1 / mask.sum(axis=1).clip(min=1), mask.sum(axis=1)).astype(np.float32)
    return Views(
        whole=_cut(images, whole, size=sizes.global_size),
        parts=_cut(images, parts, size=sizes.local_size) if count else None,
        mask=on_device(torch.from_numpy(mask), device),
        masked=on_device(torch.from_numpy(places), device),
        mask_weights=on_device(torch.from_numpy(weights), device),
        gram=_cut(images, whole, size=sizes.gram_size or 2 * sizes.global_size, light=False) if stage.gram else None,
        gram_weight=stage.gram,
    )


def draw_sizes(stage: StageSettings, generator: np.random.Generator) -> CropSizes:
    """One of the sizes of a stage, by their weights; all processes draw the same."""
    weights = np.array([sizes.weight for sizes in stage.crops])
    return stage.crops[int(generator.choice(len(weights), p=weights / weights.sum()))]


def _whole_kinds(config: PretrainConfig) -> tuple[Kind, Kind]:
    """The first is always blurred; the second hardly ever, and sometimes solarised."""
    kind = Kind(area=config.dino.global_area, flip=config.data.flip, light=config.data.light)
    return kind, replace(kind, blur=0.1, solarise=0.2)


def _part_kind(config: PretrainConfig) -> Kind:
    return Kind(area=config.dino.local_area, flip=config.data.flip, blur=0.5, light=config.data.light)


def _crops(images: Images, kind: Kind, *, seed: int, view: int) -> list[Crop]:
    shown = zip(images.epoch.tolist(), images.image_index.tolist(), images.aspect.tolist(), strict=True)
    return [
        draw(kind, np.random.default_rng([seed, epoch, index, view]), aspect=aspect) for epoch, index, aspect in shown
    ]


def _cut(images: Images, views: Sequence[list[Crop]], *, size: int, light: bool = True) -> Tensor:
    return torch.cat([apply(images.pixels, crops, size=size, light=light) for crops in views])


def _mask(images: Images, config: PretrainConfig, *, seed: int, side: int) -> np.ndarray:
    """Booleans (2 B, P); which views are masked, and how much, is drawn for the batch."""
    showings = list(zip(images.epoch.tolist(), images.image_index.tolist(), strict=True))
    shares = mask_shares(2 * len(showings), masked=config.dino.masked, ratio=config.dino.mask_ratio)
    order = np.random.default_rng([seed, *showings[0], _MASKS]).permutation(len(shares))
    generators = [
        np.random.default_rng([seed, epoch, index, view, _MASKS]) for view in range(2) for epoch, index in showings
    ]
    return draw_masks(generators, [shares[number] for number in order], grid_hw=(side, side))
