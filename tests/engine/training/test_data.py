"""Errors of a data loader whose workers have died."""

from collections.abc import Iterator

import pytest

from guidino_cli.engine.training.data import batches_until_error
from guidino_cli.errors import ResourceError


def _batches(error: Exception) -> Iterator[int]:
    yield 1
    raise error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nMore"),
        EOFError(),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
)
def test_the_error_of_a_dead_worker_is_the_last_item_whenever_it_died(error: Exception) -> None:
    first, last = batches_until_error(_batches(error))
    assert first == 1
    assert isinstance(last, ResourceError)
    assert "a data loader worker died (" in str(last)
    assert "\n" not in str(last)


def test_other_errors_are_not_mistaken_for_a_dead_worker() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        list(batches_until_error(_batches(RuntimeError("shapes do not fit"))))
