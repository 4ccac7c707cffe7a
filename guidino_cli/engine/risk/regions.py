"""The nested regions of risk control: outer masks that miss little, inner masks that hold little that is wrong.

With the mask M of a class and its probability P, the outer region at a threshold t is M or P >= t, the inner one is M
and P >= t. So the outer region is never smaller than the mask, the inner one never larger, and both shrink as t grows,
which is what conformal risk control asks for.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from guidino_cli.engine.prediction.accumulation import CasePart

Side = Literal["outer", "inner"]


def _make_grid() -> np.ndarray:
    logits = np.linspace(-16, 16, 641)
    # Single precision, in which the probabilities are compared.
    inner = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return np.concatenate([[0.0], inner, [1.0]]).astype(np.float64)


THRESHOLDS = _make_grid()
"""Thresholds that are tried: 0, 1, and in steps of 0.05 in logits between 1e-7 and 1 - 1e-7."""


def cut_region(
    labels: Tensor | np.ndarray, probability: Tensor, index: int, threshold: float, side: Side
) -> np.ndarray:
    """The outer or inner region of a class.

    Args:
        labels: (...) class indices of the mask.
        probability: (...) float32 of the class.
        index: Index of the class.
        threshold: In [0, 1].
        side: Which region.

    Returns:
        (...) boolean.
    """
    mask = np.asarray(labels) == index
    is_likely = (probability >= threshold).cpu().numpy()
    return np.asarray(mask | is_likely if side == "outer" else mask & is_likely)


class RegionMasks:
    """Collects regions from parts of a case.

    Args:
        wanted: Class index, threshold and side of each region.
        size: Size of the case: (H, W), or (D, H, W) in the network's order.
    """

    def __init__(self, wanted: Sequence[tuple[int, float, Side]], size: Sequence[int]) -> None:
        self.wanted = list(wanted)
        self.masks = np.zeros((len(self.wanted), *size), dtype=np.uint8)

    def add(self, part: CasePart) -> None:
        """Cut the regions of a part."""
        rows = slice(part.top, part.top + len(part.labels))
        for number, (index, threshold, side) in enumerate(self.wanted):
            self.masks[number, rows] = cut_region(part.labels, part.probabilities[index], index, threshold, side)


class RegionCurves:
    """Pixels of a class by threshold, separately for those in the mask and in the truth; see `areas`.

    Args:
        index: Index of the class.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        # [in the mask][in the truth][number of thresholds that are at most the probability]
        self.counts = np.zeros((2, 2, len(THRESHOLDS) + 1), dtype=np.int64)

    def add(self, labels: np.ndarray, probability: np.ndarray, truth: np.ndarray) -> None:
        """Add pixels (N,): class indices of the mask, probability of this class, and true class indices."""
        levels = np.searchsorted(THRESHOLDS, probability.astype(np.float64), side="right")
        group = 2 * (labels == self.index) + (truth == self.index)
        size = len(THRESHOLDS) + 1
        self.counts += np.bincount(group * size + levels, minlength=4 * size).reshape(2, 2, size)

    @property
    def true(self) -> int:
        """Pixels of the class in the truth."""
        return int(self.counts[:, 1].sum())

    @property
    def predicted(self) -> int:
        """Pixels of the class in the mask."""
        return int(self.counts[1].sum())

    @property
    def dice(self) -> float:
        """Dice of the mask; NaN if both it and the truth are empty."""
        total = self.true + self.predicted
        return 2 * int(self.counts[1, 1].sum()) / total if total else float("nan")

    def areas(self, side: Side) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of the region at each of `THRESHOLDS`, and of those the ones in the truth."""
        # A pixel is in {P >= t} for the first `level` thresholds t.
        likely = self.counts[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:]
        mask = self.counts[1].sum(axis=-1, keepdims=True)
        region = likely[0] + mask if side == "outer" else likely[1]
        return region.sum(axis=0), region[1]


def to_numpy(part: CasePart, index: int) -> np.ndarray:
    """Probability (...) float32 of a class in a part."""
    return np.asarray(part.probabilities[index].to(torch.float32).cpu().numpy())
