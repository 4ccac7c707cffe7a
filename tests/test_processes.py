"""Process-level settings: a child ends with its parent; freed memory stays mapped."""

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import guidino_cli
from guidino_cli.processes import child_environment, die_with_parent, usable_cpus

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")

CHILD = """
import signal, sys, time
from pathlib import Path
from guidino_cli.processes import die_with_parent

def end(*_):
    Path(sys.argv[1], "ended").touch()
    sys.exit()

signal.signal(signal.SIGTERM, end)
Path(sys.argv[1], "has-parent" if die_with_parent() else "alone").touch()
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys
from guidino_cli.processes import child_environment
subprocess.run([sys.executable, "-c", sys.argv[1], sys.argv[2]], env=os.environ | child_environment())
"""


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert path.exists()


@linux_only
def test_a_child_is_asked_to_terminate_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(tmp_path)])
    _wait_for(tmp_path / "has-parent")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _wait_for(tmp_path / "ended")


@linux_only
def test_a_process_of_another_parent_does_not_die_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*next(iter(child_environment().items())))
    assert not die_with_parent()


_SCRIPT = """
import resource
import numpy as np
from guidino_cli.processes import {keep}

{keep}()
for _ in range(5):
    np.ones({mb} << 20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({times}):
    np.ones({mb} << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _count_page_faults(keep: str, *, mb: int, times: int) -> int:
    """Page faults, counted in a new process since the malloc options are per process."""
    code = _SCRIPT.format(keep=keep, mb=mb, times=times)
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")


@needs_glibc
def test_memory_of_freed_masks_is_reused() -> None:
    """Fifty masks of 1 MB are 12,800 pages; without the option each is requested again."""
    assert _count_page_faults("keep_freed_memory", mb=1, times=50) < 500


@needs_glibc
def test_memory_of_freed_maps_larger_than_32_mb_is_reused() -> None:
    """Five maps of 40 MB are 51,200 pages (or 100 huge ones); without the option each is requested again."""
    assert _count_page_faults("keep_all_freed_memory", mb=40, times=5) < 50


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a system that binds processes to processors")
def test_a_job_uses_the_processors_that_it_was_given() -> None:
    """Slurm gives a job some of a machine's: 1 of however many there are here."""
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from guidino_cli.processes import usable_cpus; print(usable_cpus())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"
    assert usable_cpus() == len(os.sched_getaffinity(0))


def test_nothing_counts_the_processors_of_the_whole_machine() -> None:
    package = Path(guidino_cli.__file__).parent
    counting = [path.name for path in package.rglob("*.py") if "cpu_count(" in path.read_text(encoding="utf-8")]
    assert counting == ["processes.py"]
