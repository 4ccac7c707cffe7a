"""Fit guide and thresholds of a model to a few labelled images in closed form; no gradient, no seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.engine.fewshot.images import LabelledImage, SeenImage
from guidino_cli.models.composed import Model
from guidino_cli.models.ridge import LinearScorer, RidgeGuide, TokenSums, fit_balanced_ridge
from guidino_cli.models.segmenters.guided_filter import GuidedFilter, otsu_threshold

FOLDS = 5
_THRESHOLDS = np.linspace(0.2, 0.9, 36)[::2]
_TOLERANCE = 0.005
"""Thresholds whose mean Dice is so near to the best one's are averaged."""
_NEUTRAL = 0.5
"""Where a token is as close to the region as to the rest."""
_LOGIT_OF_A_DEVIATION = 4.0


@dataclass(frozen=True)
class FittedThreshold:
    """Threshold of the map of one class, and what it was made of.

    Attributes:
        area: Mean share of the class in the labelled images.
        by_area: Quantile of the unlabelled maps that leaves this share above it; None without unlabelled images.
        by_masks: Best for the held-out maps of the labelled images; None where fewer than two of them have the class.
        threshold: Mean of the two, 1/2 in the place of one that is missing; or `by_masks` without unlabelled images.
        mean_otsu: Mean of the Otsu thresholds of the maps.
        deviation: Standard deviation of the maps' values.
    """

    area: float
    by_area: float | None
    by_masks: float | None
    threshold: float
    mean_otsu: float
    deviation: float


@dataclass(frozen=True)
class FewShotFit:
    """Result of a fit.

    Attributes:
        alpha: Penalty of the ridge regression.
        thresholds: One for each foreground class.
    """

    alpha: float
    thresholds: tuple[FittedThreshold, ...]


def default_alpha(count: int) -> float:
    """Penalty for a number K of labelled images: K^(-3/4), which is 1 for one, 0.3 for 5 and 0.1 for 20."""
    return float(count**-0.75)


@torch.no_grad()
def fit_few_labels(
    model: Model,
    labelled: Sequence[LabelledImage],
    unlabelled: Sequence[SeenImage],
    *,
    areas: Sequence[float] | None = None,
) -> FewShotFit:
    """Set guide and thresholds of a model with a `RidgeGuide` and a `GuidedFilter`.

    Args:
        model: Its backbone has seen the images.
        labelled: At least one; every foreground class has a pixel in one of them and none in another pixel.
        unlabelled: Images of the kind that will be segmented, some 20 of them.
        areas: Share of each class where it is known better than from these images; None for their mean.

    Raises:
        ValueError: The model has other parts, or a class has no token inside or none outside of it.
    """
    guide, segmenter = parts(model)
    alpha = guide.alpha or default_alpha(len(labelled))
    regions = range(1, guide.weight.shape[0] + 1)
    sums = sums_by_fold(labelled, regions)
    total = reduce(add, sums)
    guide.set_scorers([fit_balanced_ridge(total, number, alpha=alpha) for number in range(len(regions))])
    own = [maps(model, item.seen, guide) for item in labelled] if not unlabelled else []
    held_out = held_out_maps(model, labelled, sums, alpha=alpha)
    others = [maps(model, item, guide) for item in unlabelled]
    thresholds = []
    for number, region in enumerate(regions):
        pairs = [(item, found[number]) for item, found in zip(labelled, held_out, strict=True) if number in found]
        reference = [item[number] for item in others] or [item for _, item in pairs] or [item[number] for item in own]
        area = float(np.mean([item.area(region) for item in labelled])) if areas is None else areas[number]
        thresholds.append(
            fit_threshold(
                reference,
                area=area,
                by_masks=best_threshold(_join_slices(pairs, region)),
                has_unlabelled=bool(unlabelled),
            )
        )
    segmenter.set_thresholds(
        [item.threshold for item in thresholds],
        [item.mean_otsu for item in thresholds],
        [_LOGIT_OF_A_DEVIATION / max(item.deviation, 1e-6) for item in thresholds],
    )
    return FewShotFit(alpha, tuple(thresholds))


def parts(model: Model) -> tuple[RidgeGuide, GuidedFilter]:
    """Guide and segmenter of a model that can be fitted; `ValueError` for another one."""
    if not isinstance(model.guide, RidgeGuide) or not isinstance(model.segmenter, GuidedFilter):
        raise ValueError("only a model with guide ridge and segmenter guided-filter is fitted in closed form")
    return model.guide, model.segmenter


def fold_numbers(labelled: Sequence[LabelledImage]) -> list[int]:
    """Fold of each image: that of image j of the list is j mod 5.

    A regression must not learn from the next slice what a held-out one shows: slices of a volume share a fold, and a
    single volume is cut into blocks of slices.
    """
    names = [place if item.volume is None else item.volume for place, item in enumerate(labelled)]
    units = {name: number for number, name in enumerate(dict.fromkeys(names))}
    if len(units) == 1:
        blocks = min(FOLDS, len(names))
        return [place * blocks // len(names) for place in range(len(names))]
    return [units[name] % FOLDS for name in names]


def sums_by_fold(labelled: Sequence[LabelledImage], regions: Sequence[int]) -> list[TokenSums]:
    """Sums over the tokens of each fold of `fold_numbers`."""
    numbers = fold_numbers(labelled)
    folds: list[TokenSums | None] = [None] * (max(numbers) + 1)
    for place, item in zip(numbers, labelled, strict=True):
        grid_hw = (item.seen.dense.shape[-2], item.seen.dense.shape[-1])
        counted = torch.from_numpy(item.counted(grid_hw))
        tokens = F.normalize(item.seen.dense.flatten(1).T, dim=1)[counted]
        shares = torch.from_numpy(np.stack([item.shares(region, grid_hw) for region in regions]))[:, counted]
        sums, before = TokenSums.of(tokens, shares), folds[place]
        folds[place] = sums if before is None else before + sums
    return [item for item in folds if item is not None]


def fold_scorers(sums: Sequence[TokenSums], fold: int, *, alpha: float) -> dict[int, LinearScorer]:
    """Regressions to each region from all folds but one, by the region's place; without those that cannot be fitted."""
    if len(sums) < 2:
        return {}
    rest = reduce(add, [item for place, item in enumerate(sums) if place != fold])
    found = {}
    for number in range(len(rest.region_counts)):
        try:
            found[number] = fit_balanced_ridge(rest, number, alpha=alpha)
        except ValueError:
            continue
    return found


def held_out_maps(
    model: Model, labelled: Sequence[LabelledImage], sums: Sequence[TokenSums], *, alpha: float
) -> list[dict[int, Tensor]]:
    """Filtered maps (H', W') of each labelled image, by regressions fitted without its fold, by the region's place."""
    guides = [as_guide(fold_scorers(sums, fold, alpha=alpha)) for fold in range(len(sums))]
    found: list[dict[int, Tensor]] = []
    for fold, item in zip(fold_numbers(labelled), labelled, strict=True):
        names, guide = guides[fold]
        found.append({} if guide is None else dict(zip(names, maps(model, item.seen, guide), strict=True)))
    return found


def as_guide(scorers: dict[int, LinearScorer]) -> tuple[list[int], RidgeGuide | None]:
    """The regressions as a guide, and the region of each of its maps; no guide if there are none."""
    if not scorers:
        return [], None
    guide = RidgeGuide(channels=len(next(iter(scorers.values())).weights), maps=len(scorers))
    guide.set_scorers(list(scorers.values()))
    return list(scorers), guide


@torch.no_grad()
def maps(model: Model, item: SeenImage, guide: RidgeGuide) -> Tensor:
    """Filtered maps (G, H', W') of an image by a guide, as the segmenter cuts them."""
    device = model.mean.device
    image, dense = item.image.to(device)[None], item.dense.to(device)[None]
    features, _ = model.encode(image, [dense], guide.to(device)(dense))
    return features[0][0].cpu()


def fit_threshold(
    reference: Sequence[Tensor], *, area: float, by_masks: float | None, has_unlabelled: bool
) -> FittedThreshold:
    """Join what the area of the class and its masks say about the threshold of its map.

    Args:
        reference: Maps (H', W') of the unlabelled images, or else those of the labelled ones.
        area: Share of the class, in [0, 1].
        by_masks: See `FittedThreshold`.
        has_unlabelled: Whether the maps are of unlabelled images; if not, their quantile says nothing new.
    """
    values = np.concatenate([item.numpy().ravel() for item in reference])
    by_area = float(np.quantile(values, 1 - area)) if has_unlabelled else None
    other = _NEUTRAL if by_masks is None else by_masks
    return FittedThreshold(
        area,
        by_area,
        by_masks,
        threshold=other if by_area is None else (by_area + other) / 2,
        mean_otsu=float(np.mean([float(otsu_threshold(item.flatten())) for item in reference])),
        deviation=float(values.std()),
    )


def best_threshold(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """Mean of the thresholds with the best mean Dice, 0.2 to 0.88; None without an image that has the region.

    Images without the region have no say: their Dice is 1 from one threshold on, whatever it does to the others.

    Args:
        pairs: Map (N,) and truth (N,) of each image or volume.
    """
    rows = [
        [2 * np.count_nonzero(cut & truth) / (np.count_nonzero(cut) + np.count_nonzero(truth)) for cut in cuts]
        for values, truth in pairs
        if truth.any()
        for cuts in [[values > threshold for threshold in _THRESHOLDS]]
    ]
    if not rows:
        return None
    mean = np.mean(rows, axis=0)
    return float(_THRESHOLDS[mean >= mean.max() - _TOLERANCE].mean())


def _join_slices(pairs: Sequence[tuple[LabelledImage, Tensor]], region: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Map and truth of each image, and of all slices of a volume together: Dice is that of volumes."""
    found: dict[object, list[tuple[np.ndarray, np.ndarray]]] = {}
    for place, (item, values) in enumerate(pairs):
        found.setdefault(place if item.volume is None else item.volume, []).append(_with_truth(item, values, region))
    return [(np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])) for parts in found.values()]


def _with_truth(item: LabelledImage, found: Tensor, region: int) -> tuple[np.ndarray, np.ndarray]:
    grid_hw = (found.shape[-2], found.shape[-1])
    counted = item.counted(grid_hw)
    return found.numpy().ravel()[counted], item.shares(region, grid_hw)[counted] > 0.5
