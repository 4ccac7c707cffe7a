"""Results of the checks on the pretended device; every group of checks runs once in a session, in its own process."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

Results = dict[str, dict[str, Any]]

_FOLDER = Path(__file__).parent


@pytest.fixture(scope="session")
def pretended(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Results]:
    """The value and the error of each check of a module: `pretended("run_checks")`."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if platform.system() != "Linux":
        pytest.skip("the pretended device is built for Linux")
    if compiler is None:
        pytest.skip("the pretended device needs a C++ compiler: g++ or clang++")
    import torch

    if torch.version.cuda is not None:
        pytest.skip("this torch is built for real devices")
    base = tmp_path_factory.getbasetemp()
    # The workers of pytest-xdist share their parent's folder.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return lambda module: _results(module, compiler, shared)


def _results(module: str, compiler: str, folder: Path) -> Results:
    library, out = folder / "libguard.so", folder / f"{module}.json"
    sys.path.insert(0, str(_FOLDER))
    try:
        from pretended_device import build_library
    finally:
        sys.path.remove(str(_FOLDER))
    with FileLock(folder / "libguard.lock"):
        if not library.exists():
            build_library(compiler, library)
    with FileLock(folder / f"{module}.lock"):
        if not out.exists():
            _run(module, library, out, folder / f"{module}_scratch")
    found: Results = json.loads(out.read_text())
    return found


def _run(module: str, library: Path, out: Path, scratch: Path) -> None:
    scratch.mkdir()
    command = [sys.executable, str(_FOLDER / "worker.py"), str(library), module, str(out), str(scratch)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(scratch / "cache")}
    outcome = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600)
    assert outcome.returncode == 0, outcome.stderr[-4000:]
