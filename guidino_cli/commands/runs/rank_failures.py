"""Why a run of several processes ended: which rank failed first, and of what; stopped ranks are noticed and ended."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from guidino_cli.errors import LOST_RANK_CODE, ResourceError, UserError

_STOPPED_POLLS, _POLL_SECONDS = 12, 1.0
"""A rank that is stopped for so many polls is ended; the others would wait for it for hours."""
_ENDED_BY_OTHERS = {LOST_RANK_CODE, 128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGABRT}
"""Exit codes of ranks that lost another one: they leave, are told to, or torch aborts them."""


class RankFailure(Protocol):
    """torch's record of a failed process; `exitcode` is minus the signal that ended it."""

    exitcode: int
    pid: int
    timestamp: int


def first_failure(failures: Mapping[int, RankFailure]) -> tuple[int, RankFailure]:
    """Rank and failure of the cause: the earliest that does not follow from another one.

    Times are whole seconds. Within one, a signal comes first: whoever loses a killed rank may fail in ways that do not
    look like it.
    """

    def order(item: tuple[int, RankFailure]) -> tuple[bool, int, bool]:
        failure = item[1]
        return failure.exitcode in _ENDED_BY_OTHERS, failure.timestamp, failure.exitcode > 0

    return min(failures.items(), key=order)


def explain_failure(failures: Mapping[int, RankFailure], *, processes: int, stopped: set[int]) -> UserError | int:
    """The error to report, or the exit code of a rank that has printed its error itself.

    Args:
        failures: By rank; not empty.
        processes: Number of ranks.
        stopped: Processes that `end_stopped_ranks` ended.
    """
    rank, failure = first_failure(failures)
    who = f"rank {rank} of {processes} (from 0)"
    if failure.pid in stopped:
        return ResourceError(
            f"{who} was stopped by a signal (SIGSTOP) and did not go on for {_STOPPED_POLLS * _POLL_SECONDS:.0f} s, so "
            "all were ended; resume with --resume"
        )
    if failure.exitcode == LOST_RANK_CODE:
        return ResourceError(
            "the processes lost contact with each other, and none says why; resume with --resume, and with "
            "GUIDINO_DEBUG=1 to see where"
        )
    if failure.exitcode < 0:
        return ResourceError(
            f"{who} was killed by signal {-failure.exitcode} ({_name(-failure.exitcode)}), as the system does when "
            "memory runs out; resume with --resume, with fewer train.workers or a smaller train.batch_size"
        )
    return failure.exitcode


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


@contextmanager
def end_stopped_ranks() -> Iterator[set[int]]:
    """Kill children of this process that are stopped, not merely slow; only Linux tells. Yields those it killed.

    Polls are counted, not seconds: where everything was stopped, as a batch system does, nobody waits for anybody.
    """
    killed: set[int] = set()
    done = threading.Event()
    thread = threading.Thread(target=_watch, args=(killed, done), name="stopped ranks", daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


def _watch(killed: set[int], done: threading.Event) -> None:
    seen: dict[int, int] = {}
    while not done.wait(_POLL_SECONDS):
        stopped = stopped_children(os.getpid())
        seen = {pid: seen.get(pid, 0) + 1 for pid in stopped}
        for pid in (pid for pid, polls in seen.items() if polls >= _STOPPED_POLLS):
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)


def stopped_children(parent: int) -> set[int]:
    """Child processes in the state that SIGSTOP and SIGTSTP leave; empty where there is no /proc."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything.
            state, ppid = path.read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):  # It has just ended.
            continue
        if state == "T" and int(ppid) == parent:
            found.add(int(path.parent.name))
    return found
