"""Which tests reach which lines of the package, and running some of them in a process of its own."""

import contextlib
import hashlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from mutation.mistakes import LEFT_OUT, ROOT, Mutation

_PYTEST = ["-q", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--tb=line"]


@dataclass
class Reach:
    """Lines of the package that the tests of one file run: by test, and those that count for all of its tests."""

    tests: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    shared: dict[str, list[int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def tests_for(self, mutation: Mutation) -> list[str]:
        """Tests that reach a mutated statement."""
        lines = set(range(mutation.first, mutation.last + 1))
        if lines.intersection(self.shared.get(mutation.file, ())):
            found = list(self.tests)
        else:
            found = [test for test, files in self.tests.items() if lines.intersection(files.get(mutation.file, ()))]
        return [test for test in self.passing if test in found]

    @property
    def passing(self) -> list[str]:
        """Tests that pass without any mistake."""
        return [test for test in self.tests if test not in self.failed]


class Recorder:
    """Pytest plugin that records the lines of guidino_cli that each test runs."""

    def __init__(self, root: Path) -> None:
        self.prefix, self.root = str(root / "guidino_cli") + os.sep, root
        self.reach = Reach()
        self.shared: set[tuple[str, int]] = set()
        self.current = self.shared

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(self.prefix):
            return None
        # Module and class bodies run once, for all tests that follow.
        return self.trace_function if code.co_flags & 0x1 else self.trace_body

    def trace_function(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.current.add((frame.f_code.co_filename, frame.f_lineno))
        return self.trace_function

    def trace_body(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "line":
            self.shared.add((frame.f_code.co_filename, frame.f_lineno))
        return self.trace_body

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.started, self.current = time.monotonic(), self.shared

    def pytest_runtest_call(self, item: Any) -> None:
        self.current = set()

    def pytest_runtest_teardown(self, item: Any) -> None:
        self.reach.tests[item.nodeid] = self.by_file(self.current)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.reach.seconds[report.nodeid] = time.monotonic() - self.started
        if report.failed or report.skipped:
            self.reach.failed.append(report.nodeid)

    def by_file(self, lines: set[tuple[str, int]]) -> dict[str, list[int]]:
        """Line numbers by file."""
        found: dict[str, list[int]] = {}
        for file, line in sorted(lines):
            found.setdefault(str(Path(file).relative_to(self.root)), []).append(line)
        return found

    def run(self, file: str) -> dict[str, Any]:
        """Run a test file under the recorder."""
        import pytest

        threading.settrace(self.trace)
        sys.settrace(self.trace)
        pytest.main([*_PYTEST, file], plugins=[self])
        sys.settrace(None)
        self.reach.shared = self.by_file(self.shared)
        return vars(self.reach)


class Chosen:
    """Pytest plugin that runs only some tests, in their order, and remembers the first that fails."""

    def __init__(self, tests: list[str]) -> None:
        self.places, self.killer = {test: place for place, test in enumerate(tests)}, ""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if item.nodeid in self.places]
        items.sort(key=lambda item: self.places[item.nodeid])

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.killer:
            self.killer = report.nodeid

    def run(self) -> dict[str, Any]:
        """Run the tests; a collection that fails is a failure too."""
        import pytest

        files = dict.fromkeys(test.split("::")[0] for test in self.places)
        code = int(pytest.main([*_PYTEST, "-x", *files], plugins=[self]))
        return {"killer": self.killer or ("" if code in (0, 5) else f"exit {code}")}


def in_child(work: Callable[[], dict[str, Any]], folder: Path, limit: float) -> dict[str, Any] | None:
    """Result of `work` in a process of its own whose working directory is `folder`; None after `limit` seconds.

    The process is forked from this one, which has imported the large libraries but nothing of guidino_cli.
    """
    answer = folder / ".answer.json"
    answer.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setsid()
            os.chdir(folder)
            sys.path.insert(0, str(folder))
            with open(os.devnull, "w") as null:
                os.dup2(null.fileno(), 1)
                os.dup2(null.fileno(), 2)
            answer.write_text(json.dumps(work()))
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + limit
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what a test left running
    return dict(json.loads(answer.read_text())) if answer.exists() else {"killer": "the process died"}


def list_test_files(names: list[str]) -> list[str]:
    """Test files under some folders of tests/."""
    left_out = [ROOT / "tests" / name for name in LEFT_OUT]
    files: list[Path] = []
    for name in names:
        path = ROOT / "tests" / name
        files += [path] if path.is_file() else sorted(path.rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if not set(left_out) & set(file.parents)]


def record_reach(files: list[str], copy: Path, cache: Path) -> dict[str, Reach]:
    """What the tests of each file reach; from the cache where the package and the file are unchanged."""
    package = hashlib.sha256()
    for path in sorted((ROOT / "guidino_cli").rglob("*.py")):
        package.update(path.read_bytes())
    found = {}
    for file in files:
        digest = package.copy()
        digest.update(file.encode() + (ROOT / file).read_bytes())
        stored = cache / f"{digest.hexdigest()[:24]}.json"
        if not stored.exists():
            started = time.monotonic()
            answer = in_child(lambda file=file: Recorder(copy).run(file), copy, 900)  # type: ignore[misc]
            if answer is None or "tests" not in answer:
                print(f"{file}: does not end", file=sys.stderr)
                answer = vars(Reach())
            stored.write_text(json.dumps(answer))
            print(f"{file}: {len(answer['tests'])} tests, {time.monotonic() - started:.0f} s", file=sys.stderr)
        found[file] = Reach(**json.loads(stored.read_text()))
    return found
