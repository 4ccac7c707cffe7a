"""Work ahead and behind: in order, never too far, errors where they belong."""

import threading

import pytest

from guidino_cli.engine.prediction.pipeline import Behind, ahead


def test_results_come_in_order_and_errors_with_their_item() -> None:
    def work(item: int) -> float:
        return 6 / item

    results = [(item, future.exception() or future.result()) for item, future in ahead([1, 2, 0, 3], work)]
    assert [item for item, _ in results] == [1, 2, 0, 3]
    assert [result for item, result in results if item] == [6, 3, 2]
    assert isinstance(results[2][1], ZeroDivisionError)


def test_no_more_is_read_ahead_than_asked_for() -> None:
    begun: list[int] = []
    for item, future in ahead(range(20), begun.append, depth=3):
        future.result()
        assert len(begun) <= item + 4


def test_leaving_early_ends_the_thread() -> None:
    before = threading.active_count()
    results = ahead(range(100), lambda item: item)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_what_was_handed_over_is_done_when_the_block_is_left() -> None:
    done: list[int] = []
    with Behind(depth=2) as behind:
        for item in range(10):
            behind.do(lambda item=item: done.append(item))  # type: ignore[misc]
    assert done == list(range(10))


def test_an_error_behind_is_not_lost() -> None:
    with pytest.raises(ZeroDivisionError), Behind() as behind:
        behind.do(lambda: 1 / 0)
