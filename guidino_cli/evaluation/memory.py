"""Keep the memory of one mask for the next: asking the system again costs a third of the time of a small pair."""

import ctypes
import sys

# glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 256 << 20
_LARGEST_BYTES = 32 << 20


def keep_freed_memory() -> bool:
    """Tell the C library to keep up to 256 MB of freed memory; larger blocks than 32 MB still go back at once.

    Returns:
        Whether it listened: only glibc does, elsewhere nothing changes.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)) and bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES))
