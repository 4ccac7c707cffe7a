"""Does a map put the foreground above the background: AUROC, and IoU at any threshold."""

import numpy as np


def auroc(values: np.ndarray, truth: np.ndarray) -> float:
    """Probability that a foreground pixel has a larger value than a background pixel; equal values count half.

    Args:
        values: Any shape, finite.
        truth: Booleans of the same shape.

    Returns:
        Share in [0, 1]; 0.5 knows nothing. NaN where all pixels or none are foreground: there is nothing to rank.
    """
    if values.shape != truth.shape:
        raise ValueError(f"values are {values.shape}, truth is {truth.shape}")
    levels, places = np.unique(values, return_inverse=True)
    return auroc_of_counts(*counts(places.reshape(truth.shape), truth, levels=len(levels)))


def counts(places: np.ndarray, truth: np.ndarray, *, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of foreground and of background at each of so many levels; `places` are indices of levels."""
    return np.bincount(places[truth], minlength=levels), np.bincount(places[~truth], minlength=levels)


def auroc_of_counts(foreground: np.ndarray, background: np.ndarray) -> float:
    """AUROC of pixels sorted into levels, lowest first; two pixels of one level count half."""
    pairs = float(foreground.sum()) * float(background.sum())
    if pairs == 0:
        return float("nan")
    below = np.cumsum(background, dtype=np.float64) - background
    return float((foreground * (below + background / 2)).sum() / pairs)


def iou_of_counts(foreground: np.ndarray, background: np.ndarray) -> np.ndarray:
    """IoU with the truth of everything at or above each level.

    Args:
        foreground: (..., levels) pixels of the truth at each level, lowest first.
        background: The other pixels, likewise.

    Returns:
        (..., levels) shares; NaN where neither the truth nor the level has a pixel.
    """
    found, extra = (np.cumsum(part[..., ::-1], axis=-1)[..., ::-1] for part in (foreground, background))
    union = foreground.sum(axis=-1, keepdims=True) + extra
    return np.divide(found, union, out=np.full(union.shape, np.nan), where=union > 0)
