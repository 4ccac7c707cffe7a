"""Keep the memory of one mask or map for the next: asking the system again costs a part of the time of each."""

import ctypes
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


def keep_freed_maps() -> bool:
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
