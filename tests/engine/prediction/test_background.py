"""Background threads keep the order of their items and lose no errors."""

import threading

import pytest

from guidino_cli.engine.prediction.background import BackgroundWorker, prefetch


def test_prefetch_keeps_the_order_and_gives_errors_with_their_item() -> None:
    def divide(item: int) -> float:
        return 6 / item

    results = [(item, future.exception() or future.result()) for item, future in prefetch([1, 2, 0, 3], divide)]
    assert [item for item, _ in results] == [1, 2, 0, 3]
    assert [result for item, result in results if item] == [6, 3, 2]
    assert isinstance(results[2][1], ZeroDivisionError)


def test_prefetch_loads_at_most_depth_items_ahead() -> None:
    started: list[int] = []
    for item, future in prefetch(range(20), started.append, depth=3):
        future.result()
        assert len(started) <= item + 4


def test_closing_prefetch_early_ends_its_thread() -> None:
    before = threading.active_count()
    results = prefetch(range(100), lambda item: item)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_submitted_tasks_are_done_when_the_context_is_left() -> None:
    done: list[int] = []
    with BackgroundWorker(depth=2) as worker:
        for item in range(10):
            worker.submit(lambda item=item: done.append(item))  # type: ignore[misc]
    assert done == list(range(10))


def test_an_error_of_a_task_is_raised_when_the_context_is_left() -> None:
    with pytest.raises(ZeroDivisionError), BackgroundWorker() as worker:
        worker.submit(lambda: 1 / 0)
