"""Sliding-window inference that yields finished rows of probabilities, so memory does not grow with the height."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.config import RunConfig
from guidino_cli.engine.feature_cache.cache import FeatureCache
from guidino_cli.models.composed import GetOrCompute, Model

_FLIPS: list[tuple[int, ...]] = [(), (-1,), (-2,), (-2, -1)]
_BAND_ROWS = 128


@dataclass(frozen=True)
class Window:
    """Sliding-window settings.

    Attributes:
        size: Side of a window in pixels of the network's grid.
        overlap: Fraction of a window that the next one covers again, in [0, 1).
        mirror: Average over the four flips (test-time augmentation).
        batch_size: Windows per forward pass.
        mirror_backbone: "each" runs the backbone on every flip; "once" runs it on the unflipped window only and flips
            its features. A quarter of the work, but not the same result: a ViT is not symmetric.
    """

    size: int
    overlap: float = 0.5
    mirror: bool = True
    batch_size: int = 4
    mirror_backbone: Literal["each", "once"] = "each"

    @classmethod
    def from_config(cls, config: RunConfig, *, mirror: bool | None = None) -> "Window":
        """The windows of a run; `mirror` replaces `predict.mirror`."""
        settings = config.predict
        return cls(
            config.data.image_size,
            settings.overlap,
            settings.mirror if mirror is None else mirror,
            settings.batch_size,
            settings.mirror_backbone,
        )

    @property
    def flips(self) -> int:
        """Number of forward passes per window."""
        return len(_FLIPS) if self.mirror else 1


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
"""Reads the window (C, size, size) in [0, 1] whose top-left corner is (row, column), zeros outside the image."""


@torch.inference_mode()
def segment_bands(
    model: Model,
    size_hw: tuple[int, int],
    read_window: ReadWindow,
    window: Window,
    *,
    cache: FeatureCache | None = None,
    name: str = "",
) -> Iterator[Band]:
    """Segment an image from top to bottom, holding only the rows that a later window may still overlap.

    Logits of overlapping windows are averaged with Gaussian weights (sigma an eighth of the window), as nnU-Net does.

    Args:
        model: In evaluation mode.
        size_hw: Image size in the network's grid.
        read_window: Reads a window of the image.
        window: How to cover the image.
        cache: Backbone features of images that will be segmented again.
        name: Identifies the image in the cache.

    Yields:
        Bands from row 0 to the last, without gaps.
    """
    device = model.mean.device
    weight = _gaussian_weight(window.size, device)
    rows = _RowAccumulator(size_hw, window.size, device)
    all_corners = window_corners(size_hw, window)
    for start in range(0, len(all_corners), window.batch_size):
        corners = all_corners[start : start + window.batch_size]
        yield from rows.finish_above(corners[0][0])
        crops = torch.stack([read_window(corner) for corner in corners]).to(device)
        keys = [(name, window.size, corner) for corner in corners]
        logits, guide = predict_with_flips(model, crops, window, cache=cache, keys=keys)
        for i, corner in enumerate(corners):
            rows.add(corner, logits[i], None if guide is None else guide[i], weight)
    yield from rows.finish_above(size_hw[0])


class _RowAccumulator:
    """Weighted sums over windows for the rows that are not finished yet.

    Args:
        size_hw: Image size.
        side: Side of a window.
        device: Device of the sums.
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

    def finish_above(self, end: int) -> Iterator[Band]:
        """Yield the rows above `end`, if there are any: no later window overlaps them."""
        if end <= self.top:
            return
        count, top = end - self.top, self.top
        done, self.sums = self.sums[:, :count, : self.size_hw[1]], self.sums[:, count:].clone()
        self.top = end
        # A few rows at a time, because the mean and its softmax are copies.
        for start in range(0, count, _BAND_ROWS):
            part = done[:, start : start + _BAND_ROWS]
            mean = part[:-1] / part[-1:]
            guide = mean[self.classes :]
            yield Band(top + start, mean[: self.classes].softmax(dim=0), guide if len(guide) else None)


def window_corners(size_hw: tuple[int, int], window: Window) -> list[tuple[int, int]]:
    """Top-left corners of windows that cover an image, evenly spread, at most (1 - overlap) of a window apart."""
    return list(product(_window_starts(size_hw[0], window), _window_starts(size_hw[1], window)))


def count_windows(size_hw: tuple[int, int], window: Window) -> int:
    """Number of `window_corners`, without listing them: a damaged header may claim billions."""
    return _count_starts(size_hw[0], window) * _count_starts(size_hw[1], window)


def _count_starts(side: int, window: Window) -> int:
    return math.ceil(max(0, side - window.size) / max(1, math.floor(window.size * (1 - window.overlap)))) + 1


def _window_starts(side: int, window: Window) -> list[int]:
    count, last = _count_starts(side, window), side - window.size
    return [0] if count == 1 else [round(last * i / (count - 1)) for i in range(count)]


def predict_with_flips(
    model: Model,
    crops: Tensor,
    window: Window,
    *,
    cache: FeatureCache | None = None,
    keys: Sequence[tuple[object, ...]] = (),
) -> tuple[Tensor, Tensor | None]:
    """Mean logits (B, K, H, W) and guide (B, G, H, W) of a batch of windows over the flips, each flipped back."""
    logits: list[Tensor] = []
    guides: list[Tensor] = []
    unflipped = _UnflippedFeatures()
    for axes in _FLIPS[: window.flips]:
        seen = crops.flip(axes) if axes else crops
        known = None if cache is None else partial(cache.get_or_compute, [(*key, axes) for key in keys], pixels=seen)
        get_or_compute = partial(unflipped.get_or_compute, axes, known) if window.mirror_backbone == "once" else known
        prediction = model(seen, get_or_compute=get_or_compute)
        logits.append(prediction.logits[0].float().flip(axes) if axes else prediction.logits[0].float())
        if prediction.guide is not None:
            guide = F.interpolate(prediction.guide.float(), size=crops.shape[-2:], mode="bilinear", align_corners=False)
            guides.append(guide.flip(axes) if axes else guide)
    return torch.stack(logits).mean(dim=0), torch.stack(guides).mean(dim=0) if guides else None


class _UnflippedFeatures:
    """Features of unflipped windows, flipped along with them; the first call must be for the unflipped windows."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []

    def get_or_compute(
        self, axes: tuple[int, ...], known: GetOrCompute | None, compute: Callable[[], list[Tensor]]
    ) -> list[Tensor]:
        if not axes:
            self.maps = compute() if known is None else known(compute)
            return self.maps
        return [item.flip(axes) for item in self.maps]


def _gaussian_weight(side: int, device: torch.device) -> Tensor:
    """(side, side) weights, 1 in the middle; clamped at the corners so that dividing by them is stable."""
    x = torch.arange(side, device=device, dtype=torch.float32) - (side - 1) / 2
    line = torch.exp(-(x**2) / (2 * (side / 8) ** 2))
    return torch.outer(line, line).clamp(min=1e-4)
