"""Sliding windows: windows of an image in, finished rows of probabilities out, whatever the height of the image."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.engine.feature_cache.cache import FeatureCache
from guidino_cli.models.composed import GetOrCompute, Model

_MIRRORS: list[tuple[int, ...]] = [(), (-1,), (-2,), (-2, -1)]
_ROWS = 128


@dataclass(frozen=True)
class Window:
    """How an image is covered.

    Attributes:
        size: Side of a window in pixels of the network's grid.
        overlap: Share of a window that the next one covers again, in [0, 1).
        mirror: Average over the four flips.
        batch_size: Windows a forward pass.
        mirror_backbone: "each" shows every flip to the backbone; "once" shows it the window as it is, and flips what
            it says. A quarter of its work, but not the same: a ViT is not symmetric.
    """

    size: int
    overlap: float = 0.5
    mirror: bool = True
    batch_size: int = 4
    mirror_backbone: Literal["each", "once"] = "each"

    @property
    def flips(self) -> int:
        """How often every window goes through the network."""
        return len(_MIRRORS) if self.mirror else 1


class Band(NamedTuple):
    """Finished rows of a result.

    Attributes:
        top: The first row.
        probabilities: (K, rows, W) float32.
        guide: (G, rows, W) float32 in [0, 1], or None without a guide.
    """

    top: int
    probabilities: Tensor
    guide: Tensor | None


ReadWindow = Callable[[tuple[int, int]], Tensor]
"""Gives the window (C, size, size) in [0, 1] whose top-left corner is (row, column), zeros outside the image."""


@torch.inference_mode()
def segment_bands(
    model: Model,
    size_hw: tuple[int, int],
    crop: ReadWindow,
    window: Window,
    *,
    cache: FeatureCache | None = None,
    name: str = "",
) -> Iterator[Band]:
    """Segment an image from top to bottom, holding only rows that a window may still reach.

    Logits of overlapping windows are averaged with Gaussian weights (sigma an eighth of the window), as nnU-Net does.

    Args:
        model: In evaluation mode.
        size_hw: Of the image, in the network's grid.
        crop: Gives its windows.
        window: How to cover it.
        cache: Where dense maps are kept, for images that will come again.
        name: What the image is called there.

    Yields:
        Bands from row 0 to the last, without gaps.
    """
    device = model.mean.device
    weight = _gaussian(window.size, device)
    rows = _OpenRows(size_hw, window.size, device)
    everywhere = window_corners(size_hw, window)
    for start in range(0, len(everywhere), window.batch_size):
        corners = everywhere[start : start + window.batch_size]
        yield from rows.close(corners[0][0])
        crops = torch.stack([crop(corner) for corner in corners]).to(device)
        keys = [(name, window.size, corner) for corner in corners]
        logits, guide = predict_with_flips(model, crops, window, cache=cache, keys=keys)
        for i, corner in enumerate(corners):
            rows.add(corner, logits[i], None if guide is None else guide[i], weight)
    yield from rows.close(size_hw[0])


class _OpenRows:
    """Weighted sums over the windows of those rows that are not finished.

    Args:
        size_hw: Of the image.
        side: Of a window.
        device: Where to sum.
    """

    def __init__(self, size_hw: tuple[int, int], side: int, device: torch.device) -> None:
        self.size_hw, self.side = size_hw, side
        self.top, self.classes = 0, 0
        # Class scores, guide maps and, last, the weights.
        self.sums = torch.zeros(0, 0, max(size_hw[1], side), device=device)

    def add(self, corner: tuple[int, int], logits: Tensor, guide: Tensor | None, weight: Tensor) -> None:
        """Add a window's (K, side, side) logits and (G, side, side) guide."""
        self.classes = len(logits)
        maps = [logits, *([] if guide is None else [guide]), torch.ones_like(logits[:1])]
        content = torch.cat(maps) * weight
        row, column = corner[0] - self.top, corner[1]
        missing = row + self.side - self.sums.shape[1]
        if missing > 0:
            kept = self.sums if len(self.sums) else self.sums.new_zeros(len(content), 0, self.sums.shape[2])
            self.sums = F.pad(kept, (0, 0, 0, missing))
        self.sums[:, row : row + self.side, column : column + self.side].add_(content)

    def close(self, end: int) -> Iterator[Band]:
        """Hand out the rows above `end`, if there are any: no later window reaches them."""
        if end <= self.top:
            return
        count, top = end - self.top, self.top
        done, self.sums = self.sums[:, :count, : self.size_hw[1]], self.sums[:, count:].clone()
        self.top = end
        # A few rows at a time: the mean and its softmax are copies.
        for start in range(0, count, _ROWS):
            part = done[:, start : start + _ROWS]
            mean = part[:-1] / part[-1:]
            guide = mean[self.classes :]
            yield Band(top + start, mean[: self.classes].softmax(dim=0), guide if len(guide) else None)


def window_corners(size_hw: tuple[int, int], window: Window) -> list[tuple[int, int]]:
    """Top-left corners of windows that cover an image, evenly spread, at most (1 - overlap) of a window apart."""
    return list(product(_steps(size_hw[0], window), _steps(size_hw[1], window)))


def _steps(side: int, window: Window) -> list[int]:
    room = side - window.size
    if room <= 0:
        return [0]
    count = math.ceil(room / max(1, math.floor(window.size * (1 - window.overlap)))) + 1
    return [round(room * i / (count - 1)) for i in range(count)]


def predict_with_flips(
    model: Model,
    crops: Tensor,
    window: Window,
    *,
    cache: FeatureCache | None = None,
    keys: Sequence[tuple[object, ...]] = (),
) -> tuple[Tensor, Tensor | None]:
    """Mean logits and guide of a batch of windows, flipped images flipped back."""
    logits: list[Tensor] = []
    guides: list[Tensor] = []
    upright = _UnflippedFeatures()
    for axes in _MIRRORS[: window.flips]:
        seen = crops.flip(axes) if axes else crops
        known = None if cache is None else partial(cache.get_or_compute, [(*key, axes) for key in keys], pixels=seen)
        recall = partial(upright.recall, axes, known) if window.mirror_backbone == "once" else known
        prediction = model(seen, get_or_compute=recall)
        logits.append(prediction.logits[0].float().flip(axes) if axes else prediction.logits[0].float())
        if prediction.guide is not None:
            guide = F.interpolate(prediction.guide.float(), size=crops.shape[-2:], mode="bilinear", align_corners=False)
            guides.append(guide.flip(axes) if axes else guide)
    return torch.stack(logits).mean(dim=0), torch.stack(guides).mean(dim=0) if guides else None


class _UnflippedFeatures:
    """The dense maps of windows as they are, for their mirror images; the first flip asked for must be none."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []

    def recall(
        self, axes: tuple[int, ...], known: GetOrCompute | None, compute: Callable[[], list[Tensor]]
    ) -> list[Tensor]:
        if not axes:
            self.maps = compute() if known is None else known(compute)
            return self.maps
        return [item.flip(axes) for item in self.maps]


def _gaussian(side: int, device: torch.device) -> Tensor:
    """(side, side) weights, 1 in the middle; never so small at the corners that a division would blow up."""
    x = torch.arange(side, device=device, dtype=torch.float32) - (side - 1) / 2
    line = torch.exp(-(x**2) / (2 * (side / 8) ** 2))
    return torch.outer(line, line).clamp(min=1e-4)
