"""Weighted sums over overlapping windows, of which finished rows or slices are given out."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_BAND_ROWS = 128
_BAND_SLICES = 4


class Band(NamedTuple):
    """Finished rows of an image, or slices of a volume.

    Attributes:
        top: The first row or slice.
        probabilities: (K, rows, W) or (K, slices, H, W) float32.
        guide: (G, ...) float32 in [0, 1] likewise, or None without a guide.
    """

    top: int
    probabilities: Tensor
    guide: Tensor | None


class CasePart(NamedTuple):
    """Output of one or several runs for an image or a volume, or for some of its rows or slices.

    Attributes:
        top: The first row or slice.
        labels: (...) class indices of the mask, the argmax of the probabilities.
        probabilities: (K, ...) float32, the mean over the runs, on the device of the network.
        guide: (G, ...) float32 in [0, 1] likewise, one map or one for each foreground class; None without a guide.
        members: (...) class indices of each run's own mask; () for a single run.
    """

    top: int
    labels: np.ndarray
    probabilities: Tensor
    guide: Tensor | None = None
    members: Sequence[np.ndarray] = ()


OnPart = Callable[[CasePart], object]
"""Called with the parts of an image or a volume, from top to bottom."""


def to_probabilities(logits: Tensor, *, are_affinities: bool) -> Tensor:
    """Probabilities of logits (K, ...): of classes, which add up to 1, or of affinities, each by itself."""
    return logits.sigmoid() if are_affinities else logits.softmax(dim=0)


class BandAccumulator:
    """Weighted sums over windows for the rows or slices that are not finished yet.

    Args:
        size: Size of the image or volume.
        sides: Sides of a window.
        device: Device of the sums.
        are_affinities: Whether each output is a probability by itself, instead of one of classes.
    """

    def __init__(
        self, size: Sequence[int], sides: Sequence[int], device: torch.device, *, are_affinities: bool = False
    ) -> None:
        self._are_affinities = are_affinities
        self.size, self.sides = tuple(size), tuple(sides)
        self.top, self.classes = 0, 0
        rest = [max(pair) for pair in zip(self.size[1:], self.sides[1:], strict=True)]
        # Class scores, guide maps and, last, the weights.
        self.sums = torch.zeros(0, 0, *rest, device=device)

    def add(self, corner: Sequence[int], logits: Tensor, guide: Tensor | None, weight: Tensor) -> None:
        """Add a window's logits (K, *sides) and guide (G, *sides)."""
        self.classes = len(logits)
        maps = [logits, *([] if guide is None else [guide]), torch.ones_like(logits[:1])]
        content = torch.cat(maps) * weight
        starts = (corner[0] - self.top, *corner[1:])
        missing = starts[0] + self.sides[0] - self.sums.shape[1]
        if missing > 0:
            kept = self.sums if len(self.sums) else self.sums.new_zeros(len(content), 0, *self.sums.shape[2:])
            self.sums = F.pad(kept, (0, 0) * (len(self.size) - 1) + (0, missing))
        place = [slice(start, start + side) for start, side in zip(starts, self.sides, strict=True)]
        self.sums[(slice(None), *place)].add_(content)

    def finish_above(self, end: int) -> Iterator[Band]:
        """Yield the rows or slices above `end`, if there are any: no later window overlaps them."""
        if end <= self.top:
            return
        count, top = end - self.top, self.top
        inside = [slice(0, side) for side in self.size[1:]]
        done, self.sums = self.sums[(slice(None), slice(0, count), *inside)], self.sums[:, count:].clone()
        self.top = end
        # A few at a time, because the mean and its probabilities are copies.
        step = _BAND_ROWS if len(self.size) == 2 else _BAND_SLICES
        for start in range(0, count, step):
            part = done[:, start : start + step]
            mean = part[:-1] / part[-1:]
            guide = mean[self.classes :]
            probabilities = to_probabilities(mean[: self.classes], are_affinities=self._are_affinities)
            yield Band(top + start, probabilities, guide if len(guide) else None)
