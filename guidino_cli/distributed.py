"""Collective operations over the ranks of a run; on a single rank they do nothing."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, NoReturn, TypeVar, overload

import torch
from torch import Tensor, distributed
from torch.distributed import ReduceOp

from guidino_cli.errors import UserError

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether there is more than one rank."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def world_size() -> int:
    """Number of ranks."""
    return distributed.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if is_distributed() else 0


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum of a tensor over all ranks; without gradient."""
    return _all_reduce(tensor, ReduceOp.SUM)


def all_reduce_max(tensor: Tensor) -> Tensor:
    """Elementwise maximum of a tensor over all ranks; without gradient."""
    return _all_reduce(tensor, ReduceOp.MAX)


def all_reduce_max_on_cpu(value: int) -> int:
    """Maximum of a number over all ranks, sent between CPUs: reading it from a GPU would wait for all its work."""
    if not is_distributed():
        return value
    result = torch.tensor(value)
    distributed.all_reduce(result, ReduceOp.MAX, group=_gloo_group(distributed.group.WORLD))
    return int(result)


def all_gather(rows: Tensor) -> list[Tensor]:
    """Rows (N, ...) of every rank, in rank order; N is the same everywhere; without gradient."""
    if not is_distributed():
        return [rows.detach()]
    rows = rows.detach().contiguous()
    gathered = [torch.empty_like(rows) for _ in range(world_size())]
    distributed.all_gather(gathered, rows)
    return gathered


def all_gather_object(value: T) -> list[T]:
    """A picklable value of every rank, in rank order."""
    if not is_distributed():
        return [value]
    gathered: list[Any] = [None] * world_size()
    distributed.all_gather_object(gathered, value)
    return gathered


@overload
def raise_on_all_ranks(error: UserError) -> NoReturn: ...
@overload
def raise_on_all_ranks(error: UserError | None) -> None: ...
def raise_on_all_ranks(error: UserError | None) -> None:
    """Raise the first error of any rank; every other rank exits silently with its code, so it is printed once."""
    errors = [(number, found) for number, found in enumerate(all_gather_object(error)) if found is not None]
    if not errors:
        return
    first, raised = errors[0]
    if rank() == first and error is not None:
        raise error
    sys.exit(raised.exit_code)


def run_on_all_ranks(work: Callable[[], T]) -> T:
    """Call a function on every rank; where it raises a `UserError` on one, all ranks end."""
    result: list[T] = []
    error: UserError | None = None
    try:
        result.append(work())
    except UserError as raised:
        error = raised
    raise_on_all_ranks(error)
    return result[0]


def run_on_main_process(work: Callable[[], object]) -> None:
    """Call a function on rank 0; where it raises a `UserError`, all ranks end."""
    run_on_all_ranks(work if rank() == 0 else lambda: None)


@contextmanager
def enter_on_main_process(context: AbstractContextManager[object]) -> Iterator[None]:
    """Enter a context on rank 0 only; if that raises a `UserError`, all ranks end with it."""
    with ExitStack() as stack:
        run_on_main_process(lambda: stack.enter_context(context))
        yield


def _all_reduce(tensor: Tensor, operation: "ReduceOp.RedOpType") -> Tensor:
    if not is_distributed():
        return tensor
    tensor = tensor.detach().contiguous().clone()
    distributed.all_reduce(tensor, operation)
    return tensor


_timeout: timedelta | None = None


def set_timeout(timeout: timedelta) -> None:
    """Set how long this process waits for others in groups that are made from now on."""
    global _timeout
    _timeout = timeout


@lru_cache(maxsize=1)
def _gloo_group(_: Any) -> Any:
    """A group for CPU tensors; made once for each default process group."""
    return distributed.new_group(backend="gloo", timeout=_timeout)
