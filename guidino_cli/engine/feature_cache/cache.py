"""The dense maps of a frozen backbone, kept for images that come again: here in memory, in `files` on disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from guidino_cli.models.base import Backbone


class FeatureCache(ABC):
    """Dense maps by sample; what does not fit any more is computed every time.

    To throw others out would gain nothing in a loop over all.
    """

    @abstractmethod
    def recall(self, keys: Sequence[Hashable], compute: Callable[[], list[Tensor]], *, pixels: Tensor) -> list[Tensor]:
        """The maps (B, D, h, w) of a batch: from what is kept if all its samples are there, else computed.

        Args:
            keys: What each sample is called; the same key must always mean the same pixels.
            compute: Runs the backbone over the batch.
            pixels: The batch (B, C, H, W) as the backbone is shown it, on any device.
        """


class MemoryCache(FeatureCache):
    """Maps in the precision in which the backbone gave them, hence exact, until the run ends.

    Args:
        gigabytes: Main memory to spend, in 10^9 bytes; the maps of a GPU wait there too.
    """

    def __init__(self, gigabytes: float) -> None:
        self._free_bytes = gigabytes * 1e9
        self._maps: dict[Hashable, list[Tensor]] = {}
        self._device = torch.device("cpu")

    def recall(self, keys: Sequence[Hashable], compute: Callable[[], list[Tensor]], *, pixels: Tensor) -> list[Tensor]:
        """See `DenseCache`; `pixels` are not looked at."""
        if all(key in self._maps for key in keys):
            levels = zip(*(self._maps[key] for key in keys), strict=True)
            return [torch.cat(level).to(self._device) for level in levels]
        maps = compute()
        self._device = maps[0].device
        for i, key in enumerate(keys):
            self._keep(key, [level[i : i + 1] for level in maps])
        return maps

    def _keep(self, key: Hashable, maps: list[Tensor]) -> None:
        size = sum(level.nbytes for level in maps)
        if key not in self._maps and size <= self._free_bytes:
            self._free_bytes -= size
            # Cloned: a slice would keep its whole batch alive. In its own order in memory: a convolution rounds by it.
            self._maps[key] = [level.detach().cpu().clone(memory_format=torch.preserve_format) for level in maps]


def make_memory_cache(backbone: Backbone | None, gigabytes: float) -> MemoryCache | None:
    """A cache for a backbone, or None where there is nothing to keep: none, one that learns, or no memory for it."""
    if backbone is None or not backbone.is_frozen or gigabytes <= 0:
        return None
    return MemoryCache(gigabytes)
