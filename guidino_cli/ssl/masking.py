"""Which patches of which views are hidden from the student."""

import math
from collections.abc import Sequence

import numpy as np

_SMALLEST = 4
_SHAPES = (0.3, 1 / 0.3)
_ATTEMPTS = 10


def mask_shares(views: int, *, masked: float, ratio: tuple[float, float]) -> list[float]:
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


def hidden_count(share: float, *, patches: int) -> int:
    """Patches to hide, at least one where the share is not 0, and never all."""
    return 0 if share == 0 else min(max(1, int(share * patches)), patches - 1)


def draw_masks(
    generators: Sequence[np.random.Generator], shares: Sequence[float], *, grid_hw: tuple[int, int]
) -> np.ndarray:
    """Booleans (V, h w), one row a view."""
    patches = math.prod(grid_hw)
    rows = [
        draw_mask(generator, grid_hw=grid_hw, hidden=hidden_count(share, patches=patches)).ravel()
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
