"""Cache for the features of a frozen backbone, for images that are used again; kept in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from guidino_cli.device_transfer import to_device
from guidino_cli.models.base import Backbone


class FeatureCache(ABC):
    """Features by sample; what exceeds the limit is computed every time.

    Nothing is evicted: in a loop over all samples that would gain nothing.
    """

    @abstractmethod
    def get_or_compute(
        self, keys: Sequence[Hashable], compute: Callable[[], list[Tensor]], *, pixels: Tensor
    ) -> list[Tensor]:
        """Feature maps (B, D, h, w) of a batch: cached if all its samples are, otherwise computed.

        Args:
            keys: One for each sample; the same key must always mean the same pixels.
            compute: Runs the backbone on the batch.
            pixels: Input of the backbone (B, C, H, W), on any device.
        """


class MemoryCache(FeatureCache):
    """Exact features, in the precision of the backbone, until the run ends.

    Args:
        gigabytes: Limit of main memory, in 10^9 bytes; features of a GPU are stored there, too.
    """

    def __init__(self, gigabytes: float) -> None:
        self._free_bytes = gigabytes * 1e9
        self._maps: dict[Hashable, list[Tensor]] = {}
        self._device = torch.device("cpu")

    def get_or_compute(
        self, keys: Sequence[Hashable], compute: Callable[[], list[Tensor]], *, pixels: Tensor
    ) -> list[Tensor]:
        """See `FeatureCache`; `pixels` are ignored."""
        if all(key in self._maps for key in keys):
            levels = zip(*(self._maps[key] for key in keys), strict=True)
            return [to_device(torch.cat(level), self._device) for level in levels]
        maps = compute()
        self._device = maps[0].device
        if sum(level[:1].nbytes for level in maps) <= self._free_bytes:
            # One copy of each level, not one of each sample: every copy waits for the device.
            kept = [level.detach().cpu() for level in maps]
            for i, key in enumerate(keys):
                self._add(key, [level[i : i + 1] for level in kept])
        return maps

    def _add(self, key: Hashable, maps: list[Tensor]) -> None:
        size = sum(level.nbytes for level in maps)
        if key not in self._maps and size <= self._free_bytes:
            self._free_bytes -= size
            # Cloned: a slice would keep its whole batch alive. In its own memory format, which decides rounding.
            self._maps[key] = [level.clone(memory_format=torch.preserve_format) for level in maps]


def make_memory_cache(backbone: Backbone | None, gigabytes: float) -> MemoryCache | None:
    """A cache for a backbone, or None without one, for one that is trained, or for a limit of 0."""
    if backbone is None or not backbone.is_frozen or gigabytes <= 0:
        return None
    return MemoryCache(gigabytes)
