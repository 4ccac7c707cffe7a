"""What all processes of a run decide together: none may stop, save or refuse while the others go on."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from guidino_cli.errors import UserError

T = TypeVar("T")


class Ballot:
    """Votes between steps.

    They travel between processors, not GPUs: to read a number from a GPU would wait for all its work.
    """

    def __init__(self) -> None:
        self._group = None
        if PartialState().num_processes > 1:
            self._group = torch.distributed.new_group(backend="gloo")

    def highest(self, vote: int) -> int:
        """The highest vote of all processes."""
        if self._group is None:
            return vote
        votes = torch.tensor(vote)
        torch.distributed.all_reduce(votes, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(votes)


def raise_on_all_ranks(error: UserError | None) -> None:
    """Raise the first error that any process has; the others leave silently with its exit code, so it is said once."""
    if PartialState().num_processes == 1:
        if error is not None:
            raise error
        return
    errors: Sequence[UserError | None] = gather_object([error])
    first = next((number for number, found in enumerate(errors) if found is not None), None)
    if first is None:
        return
    if PartialState().process_index == first and error is not None:
        raise error
    sys.exit(errors[first].exit_code)  # type: ignore[union-attr]


def run_on_all_ranks(work: Callable[[], T]) -> T:
    """Let every process do something; where one refuses, all do."""
    result: list[T] = []
    error: UserError | None = None
    try:
        result.append(work())
    except UserError as refused:
        error = refused
    raise_on_all_ranks(error)
    return result[0]


def run_on_main_process(work: Callable[[], None]) -> None:
    """Let the main process do something; where it refuses, all processes do."""
    run_on_all_ranks(work if PartialState().is_main_process else lambda: None)
