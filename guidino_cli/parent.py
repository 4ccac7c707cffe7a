"""A process that works for another one: it is asked to terminate when that one is killed."""

import os
import signal
import sys

_NAME = "GUIDINO_PARENT"
# linux/prctl.h
_PR_SET_PDEATHSIG = 1


def for_children() -> dict[str, str]:
    """What the environment of a guidino process must say, that it may `follow` this one."""
    return {_NAME: str(os.getpid())}


def follow() -> bool:
    """Ask for SIGTERM at the end of the process that started this one for its own work.

    Without, what a killed `--devices` or `--seeds` has started would go on writing into the folder that `--resume` goes
    on with.

    Returns:
        Whether this process has such a parent, and the system can do it: only Linux can.
    """
    if sys.platform != "linux" or os.environ.get(_NAME) != str(os.getppid()):
        return False
    # Not above: every command comes here first, and few have such a parent.
    import ctypes

    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM)) == 0
