"""Take batches from a loader: what is said when one cannot be had, and what its processes must not do."""

import signal
from collections.abc import Iterable, Iterator
from typing import TypeVar

from guidino_cli.errors import ResourceError, UserError

T = TypeVar("T")


def until_error(loader: Iterable[T]) -> Iterator[T | UserError]:
    """The batches of a loader.

    Where a batch cannot be had, the error comes in its place, as the last item: what was learned before is whole then,
    and can be saved.
    """
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:
            yield _plain(error)
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            yield _worker_lost(str(error).splitlines()[0].rstrip("."))
            return
        except (EOFError, ConnectionError):
            # It died while it handed over what it had loaded, before torch could find it dead.
            yield _worker_lost("it left in the middle of a batch")
            return
        _let_steps_finish()
        yield batch


def ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches a worker too, but it is the training process that decides what becomes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _let_steps_finish() -> None:
    """Let a worker that died be noticed when its batch is wanted, not in the middle of a step, whose work were lost."""
    if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) is not signal.SIG_DFL:
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        except ValueError:  # Only the main thread may.
            return


def _plain(error: UserError) -> UserError:
    """An error from a worker without the traceback that torch writes into its message."""
    line = str(error).strip().splitlines()[-1]
    _, named, message = line.partition(f"{type(error).__name__}: ")
    return type(error)(message) if named else error


def _worker_lost(reason: str) -> ResourceError:
    return ResourceError(
        f"a process that loads images died ({reason}), probably for want of memory; "
        "close other programs, or begin a run with fewer train.workers or a lower data.cache_gb"
    )
