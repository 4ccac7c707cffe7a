"""Memory of one mask is there for the next."""

import subprocess
import sys

import pytest

from guidino_cli.evaluation.memory import keep_freed_memory

_PAGES = """
import resource
import numpy as np
from guidino_cli.evaluation.memory import keep_freed_memory

keep_freed_memory()
for _ in range(5):
    np.ones((1024, 1024), np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.ones((1024, 1024), np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="not glibc")
def test_masks_of_one_size_ask_the_system_for_memory_once() -> None:
    """Fifty masks of 1 MB are 12,800 pages; without the setting each is asked for again."""
    told = subprocess.run([sys.executable, "-c", _PAGES], check=True, capture_output=True, text=True)
    assert int(told.stdout) < 500
