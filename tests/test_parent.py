"""Processes that work for another one end with it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from guidino_cli.parent import follow, for_children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")

CHILD = """
import signal, sys, time
from pathlib import Path
from guidino_cli.parent import follow

def end(*_):
    Path(sys.argv[1], "ended").touch()
    sys.exit()

signal.signal(signal.SIGTERM, end)
Path(sys.argv[1], "follows" if follow() else "alone").touch()
time.sleep(60)
"""
PARENT = """
import os, subprocess, sys
from guidino_cli.parent import for_children
subprocess.run([sys.executable, "-c", sys.argv[1], sys.argv[2]], env=os.environ | for_children())
"""


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert path.exists()


def test_a_child_is_asked_to_terminate_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(tmp_path)])
    _wait_for(tmp_path / "follows")
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _wait_for(tmp_path / "ended")


def test_who_was_started_by_another_follows_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*next(iter(for_children().items())))
    assert not follow()
