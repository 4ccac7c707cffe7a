"""A guidino command in a process of its own: what it takes with it when it dies is no one else's."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from guidino_cli.errors import StoppedError
from guidino_cli.parent import for_children

_POSIX = os.name == "posix"


def call(words: Sequence[str]) -> int:
    """Run `guidino WORDS` and return its exit code, or minus the signal that ended it.

    Its standard output goes to stderr: the caller has results of its own. An interruption or a request to terminate is
    handed on once, and the child is waited for, because it has work to save.

    Raises:
        KeyboardInterrupt: The child was interrupted, or this process was.
        StoppedError: This process was asked to terminate.
    """
    # A group of its own: Ctrl-C in a terminal would otherwise reach it twice.
    own_group: dict[str, Any] = {"process_group": 0} if _POSIX else {}
    command = [sys.executable, "-m", "guidino_cli", *words]
    process = subprocess.Popen(
        command, env=os.environ | for_children(), stdin=subprocess.DEVNULL, stdout=2, **own_group
    )
    with _handing_on(process) as seen:
        code = process.wait()
    if seen[:1] == [signal.SIGTERM]:
        raise StoppedError("stopped by SIGTERM", exit_code=128 + signal.SIGTERM)
    if seen or code in {130, -signal.SIGINT}:
        raise KeyboardInterrupt
    return code


@contextmanager
def _handing_on(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Hand SIGINT and SIGTERM on to a process; yields what was handed on."""
    seen: list[int] = []

    def hand_on(number: int, _: object) -> None:
        seen.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
