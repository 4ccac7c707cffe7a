"""Size of a network before it is built: parameters are counted without memory for them, up to a bound."""

import os
from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from guidino_cli.errors import ConfigError

# More layers than this are a mistyped depth: the largest network of the registry has about a thousand tensors.
MAX_TENSORS = 20_000
_BYTES_PER_VALUE = 4  # float32
_IN_PLACE = frozenset(
    {
        torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.fill_, torch.Tensor.zero_, torch.Tensor.erfinv_,
        torch.Tensor.clamp_, torch.Tensor.mul_, torch.Tensor.add_, torch.Tensor.div_, torch.Tensor.exponential_,
    }
)  # fmt: skip
_FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full})


class NetworkTooLargeError(ConfigError):
    """A network exceeds the memory of this machine, or has more tensors than any network needs."""


class _Counting(TorchFunctionMode):
    """Tensors are made on the meta device and never filled; `NetworkTooLargeError` beyond the bounds."""

    def __init__(self, max_values: int) -> None:
        super().__init__()
        self._max_values, self._values, self._tensors = max_values, 0, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in _IN_PLACE:
            return args[0]
        if func in _FACTORIES:
            self._add(args, kwargs or {})
        return func(*args, **(kwargs or {}))

    def _add(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        size = args[0] if args and isinstance(args[0], tuple | list) else kwargs.get("size", args)
        self._values += prod(int(length) for length in size if isinstance(length, int))
        self._tensors += 1
        if self._values > self._max_values:
            raise NetworkTooLargeError(
                f"needs more than {self._values:.1e} weights, but this machine has memory for {self._max_values:.1e}; "
                "choose smaller options"
            )
        if self._tensors > MAX_TENSORS:
            raise NetworkTooLargeError(f"has more than {MAX_TENSORS:,} tensors of weights; choose smaller options")


def build_without_memory(build: Callable[[], nn.Module], *, max_values: int | None = None) -> nn.Module:
    """Build a module whose tensors have shapes but no values, in milliseconds and without drawing random numbers.

    Args:
        build: Makes the module.
        max_values: Bound on the number of weights; default: as many float32 values as this machine's memory holds.

    Raises:
        NetworkTooLargeError: The network exceeds the bound, or has over 20,000 tensors.
    """
    limit = memory_bytes() // _BYTES_PER_VALUE if max_values is None else max_values
    with torch.random.fork_rng(devices=[]), _Counting(limit), torch.device("meta"):
        return build()


def memory_bytes() -> int:
    """Physical memory of this machine; 1 TB where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 10**12
