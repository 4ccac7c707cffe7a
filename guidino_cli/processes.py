"""Process-level settings: threads, telemetry, memory, and the end of the parent process."""

import os
import signal
import sys

# glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_KEPT_BYTES, _EVERYTHING = 256 << 20, -1
_LARGEST_BYTES = 32 << 20


def use_passive_threads() -> bool:
    """Have torch's threads sleep while they wait: spinning ones make it ten times slower on a CPU with other work.

    Returns:
        Whether it takes effect: OpenMP reads the variable when torch is imported.
    """
    is_in_time = "torch" not in sys.modules or "OMP_WAIT_POLICY" in os.environ
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return is_in_time


def keep_hub_quiet() -> None:
    """No telemetry of the libraries, and no code from a hub: transformers would download kernels that a file names."""
    for name in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ[name] = "1"
    os.environ["USE_HUB_KERNELS"] = "0"


def keep_freed_memory() -> bool:
    """Have the C library keep up to 256 MB of freed memory; blocks larger than 32 MB still go back at once.

    Returns:
        Whether it took effect: only glibc supports it, elsewhere nothing changes.
    """
    return _set_malloc_options((_TRIM_THRESHOLD, _KEPT_BYTES), (_MMAP_THRESHOLD, _LARGEST_BYTES))


def keep_all_freed_memory() -> bool:
    """Have the C library keep all freed memory, for feature maps larger than 32 MB.

    Four windows of 256 px with 32 channels are 34 MB. Memory fresh from the system is cleared page by page, which was
    an eighth of the time of nnWNet's prediction and a twentieth of its training.

    Returns:
        See `keep_freed_memory`.
    """
    return _set_malloc_options((_TRIM_THRESHOLD, _EVERYTHING), (_MMAP_MAX, 0))


def _set_malloc_options(*options: tuple[int, int]) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(bool(mallopt(name, value)) for name, value in options)


def usable_cpus() -> int:
    """Processors that this process may use, at least 1: a batch system grants a job only some of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_PARENT_VARIABLE = "GUIDINO_PARENT"
# linux/prctl.h
_PR_SET_PDEATHSIG = 1


def child_environment() -> dict[str, str]:
    """Environment variables for a child process that lets `die_with_parent` recognise this process."""
    return {_PARENT_VARIABLE: str(os.getpid())}


def has_launcher() -> bool:
    """Whether the guidino process that started this one waits for it, and will say what became of it."""
    return os.environ.get(_PARENT_VARIABLE) == str(os.getppid())


def die_with_parent() -> bool:
    """Request SIGTERM for this process when the guidino process that started it ends.

    Otherwise the workers of a killed `--devices` or `--seeds` would keep writing into the folder that `--resume` uses.

    Returns:
        Whether this process has such a parent and the system supports it: only Linux does.
    """
    if sys.platform != "linux" or not has_launcher():
        return False
    # Imported here and not at the top: every command calls this first, and few have such a parent.
    import ctypes

    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM)) == 0


def forbid_hub() -> None:
    """Keep this process and those that it starts from contacting a model hub, whichever library would."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        # Read from the environment when the package was imported.
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
