"""Process-level settings: die with the parent process, and keep freed memory mapped."""

import ctypes
import os
import signal
import sys

# glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEPT_BYTES, _EVERYTHING = 256 << 20, -1
_LARGEST_BYTES = 32 << 20


def keep_freed_memory() -> bool:
    """Tell the C library to keep up to 256 MB of freed memory; larger blocks than 32 MB still go back at once.

    Returns:
        Whether it listened: only glibc does, elsewhere nothing changes.
    """
    return _tell((_TRIM_THRESHOLD, _KEPT_BYTES), (_MMAP_THRESHOLD, _LARGEST_BYTES))


def keep_all_freed_memory() -> bool:
    """The same for a network's maps, which are larger than 32 MB: what was needed once is kept to the end.

    Four windows of 256 px with 32 channels are 34 MB. Memory fresh from the system is cleared page by page, which was
    an eighth of the time of nnWNet's prediction and a twentieth of its training.

    Returns:
        See `keep_freed_memory`.
    """
    return _tell((_TRIM_THRESHOLD, _EVERYTHING), (_MMAP_MAX, 0))


def _tell(*settings: tuple[int, int]) -> bool:
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(bool(mallopt(name, value)) for name, value in settings)


_NAME = "GUIDINO_PARENT"
# linux/prctl.h
_PR_SET_PDEATHSIG = 1


def child_environment() -> dict[str, str]:
    """What the environment of a guidino process must say, that it may `follow` this one."""
    return {_NAME: str(os.getpid())}


def die_with_parent() -> bool:
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
