"""Memory of one mask or map is there for the next."""

import platform
import subprocess
import sys

import pytest

_PAGES = """
import resource
import numpy as np
from guidino_cli.memory import {keep}

{keep}()
for _ in range(5):
    np.ones({mb} << 20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({times}):
    np.ones({mb} << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _pages(keep: str, *, mb: int, times: int) -> int:
    """Asked for in a process of its own, since the setting is the process's."""
    code = _PAGES.format(keep=keep, mb=mb, times=times)
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")


@needs_glibc
def test_masks_of_one_size_ask_the_system_for_memory_once() -> None:
    """Fifty masks of 1 MB are 12,800 pages; without the setting each is asked for again."""
    assert _pages("keep_freed_memory", mb=1, times=50) < 500


@needs_glibc
def test_maps_larger_than_32_mb_ask_the_system_for_memory_once() -> None:
    """Five maps of 40 MB are 51,200 pages (or 100 huge ones); without the setting each is asked for again."""
    assert _pages("keep_freed_maps", mb=40, times=5) < 50
