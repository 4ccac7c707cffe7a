"""Overlap reading, computing and writing: threads before and behind the one that computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    items: Iterable[Item], work: Callable[[Item], Result], *, depth: int = 2
) -> Iterator[tuple[Item, Future[Result]]]:
    """Work on the next `depth` items in a thread while the caller is busy with this one; in order."""
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead")
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > depth:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


class Behind:
    """Does work in a thread, at most `depth` pieces late; an error comes up at a later call or at the end.

    A context: what was begun is finished when it is left, whatever the reason.
    """

    def __init__(self, *, depth: int = 4) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="behind")
        self._waiting: deque[Future[Any]] = deque()
        self._depth = depth

    def do(self, work: Callable[[], object]) -> None:
        """Hand over a piece of work."""
        self._waiting.append(self._pool.submit(work))
        while len(self._waiting) > self._depth:
            self._waiting.popleft().result()

    def __enter__(self) -> "Behind":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(wait=True)
        if kind is None:
            for piece in self._waiting:
                piece.result()
