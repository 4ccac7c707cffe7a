"""Background threads that overlap reading and writing with computation."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    items: Iterable[Item], load: Callable[[Item], Result], *, depth: int = 2
) -> Iterator[tuple[Item, Future[Result]]]:
    """Load the next `depth` items in a thread while the caller processes this one; in order."""
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(load, item)))
            if len(waiting) > depth:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


class BackgroundWorker:
    """Runs tasks in order in one thread; `submit` waits while more than `depth` of them are unfinished.

    An error of a task is raised by a later `submit`, or when the context is left without another error. Submitted
    tasks are finished when the context is left, whatever the reason.
    """

    def __init__(self, *, depth: int = 4) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="background")
        self._waiting: deque[Future[Any]] = deque()
        self._depth = depth

    def submit(self, task: Callable[[], object]) -> None:
        """Queue a task."""
        self._waiting.append(self._pool.submit(task))
        while len(self._waiting) > self._depth:
            self._waiting.popleft().result()

    def __enter__(self) -> "BackgroundWorker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        if kind is None:
            for task in self._waiting:
                task.result()
