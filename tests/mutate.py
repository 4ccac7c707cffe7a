"""Do the tests notice a mistake? Makes single mistakes in the core packages and runs the tests that reach them.

Run by hand, never by pytest: `python tests/mutate.py --sample 200 --seed 1 -o mutants.jsonl`. The working tree is only
read; a copy of it in a temporary directory is changed. A run that was stopped goes on where it was. First every test
file runs once, to record which tests reach which lines; the cache keeps that until the package or the file changes.
A mistake that the tests of its own package miss is tried on those of other packages and of the commands. Mistakes that
change no result at all are few, and to be told from survivors by reading them.
"""

import argparse
import contextlib
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mutation.mistakes import PACKAGES, ROOT, WIDER, Mutation, draw_sample
from mutation.reach import Chosen, Reach, in_child, list_test_files, record_reach

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
VERDICTS = ("killed by mirror", "killed by wider", "survived")
_LEFT_OUT = (".git", "__pycache__", ".*_cache", ".venv*", ".hypothesis")


class Trial:
    """A copy of the working tree in which mistakes are made, and the tests for each of them."""

    def __init__(self, folder: Path, packages: Sequence[str], cache: Path, *, mirror_only: bool) -> None:
        self.copy, self.mirror_only = folder / "tree", mirror_only
        shutil.copytree(ROOT, self.copy, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        os.environ.update(HYPOTHESIS_STORAGE_DIRECTORY=str(folder / "hypothesis"), PYTHONPATH=str(self.copy))
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() not in {ROOT, ROOT / "tests"}]
        _import_large_libraries()
        self.mirrors = {name: list_test_files(PACKAGES[name][1]) for name in packages}
        every = [*WIDER, *(mirror for _, mirrors in PACKAGES.values() for mirror in mirrors)]
        self.wider = [] if mirror_only else list_test_files(every)
        files = dict.fromkeys([file for own in self.mirrors.values() for file in own] + self.wider)
        self.reach: dict[str, Reach] = record_reach(list(files), self.copy, cache)
        self.seconds = {test: time for found in self.reach.values() for test, time in found.seconds.items()}
        self._moment = int(time.time())

    def find_tests(self, mutation: Mutation) -> dict[str, list[str]]:
        """Tests that reach a mutated statement: those of its package, its own module's first, and all others."""
        own, name = self.mirrors[mutation.package], f"test_{Path(mutation.file).stem}"
        groups = {"mirror": own, "wider": [file for file in self.wider if file not in own]}
        found = {
            group: [test for file in files for test in self.reach[file].tests_for(mutation)]
            for group, files in groups.items()
        }
        if not found["mirror"]:
            # Code that only another process runs, which is not recorded.
            files = [file for file in own if Path(file).stem == name]
            found["mirror"] = [test for file in files for test in self.reach[file].passing]
        for tests in found.values():
            tests.sort(key=lambda test: (Path(test.split("::")[0]).stem != name, self.seconds[test]))
        return found

    def run(self, mutation: Mutation, before: dict[str, Any] | None) -> dict[str, Any]:
        """Make a mistake and run its tests until one fails; `before` is a result without the wider tests."""
        target, original = self.copy / mutation.file, (ROOT / mutation.file).read_bytes()
        groups = self.find_tests(mutation)
        result = {"name": mutation.name, "package": mutation.package, "file": mutation.file, "line": mutation.line}
        result |= {"kind": mutation.kind, "diff": mutation.diff(original), "verdict": "survived", "killer": ""}
        result |= {"tests": {name: len(tests) for name, tests in groups.items()}, "mirror_only": self.mirror_only}
        started = time.monotonic()
        try:
            self._write(target, mutation.apply(original))
            for name, tests in groups.items():
                if not tests or (name == "mirror" and before):
                    continue
                limit = 60 + 6 * sum(self.seconds[test] for test in tests)
                answer = in_child(Chosen(tests).run, self.copy, limit)
                if killer := "timeout" if answer is None else answer["killer"]:
                    result |= {"verdict": f"killed by {name}", "killer": killer}
                    break
        finally:
            self._write(target, original)
        return result | {"seconds": round(time.monotonic() - started, 1)}

    def _write(self, path: Path, content: bytes) -> None:
        """Write with a time stamp that no earlier version had, or Python would use that one's compiled file."""
        self._moment += 2
        path.write_bytes(content)
        os.utime(path, (self._moment, self._moment))


def _import_large_libraries() -> None:
    """Import once what every test process would import again; each is forked from this one."""
    for name in ("pytest", "numpy", "scipy.ndimage", "torch", "PIL.Image", "yaml", "pydantic", "accelerate", "peft"):
        importlib.import_module(name)
    with contextlib.suppress(ImportError):
        from hypothesis import settings

        # A busy machine must not look like a mistake.
        settings.register_profile("mutate", deadline=None)
        settings.load_profile("mutate")


def print_report(results: Sequence[dict[str, Any]]) -> None:
    """Survivors, then mistakes that only wider tests notice, then a table by package."""
    for title, verdict in (("Survivors", "survived"), ("Only wider tests notice", "killed by wider")):
        print(f"\n{title}:")
        for row in sorted(results, key=lambda row: (row["file"], row["line"])):
            if row["verdict"] == verdict:
                print(f"{row['file']}:{row['line']} ({row['kind']}; tests that reach it: {row['tests']})")
                print("    " + row["diff"].replace("\n", "\n    "))
    counts = Counter((name, row["verdict"]) for row in results for name in (row["package"], "all"))
    print(f"\n{'package':14}{'mutants':>9}{'mirror':>8}{'wider':>7}{'survived':>10}{'killed':>8}")
    for package in [*dict.fromkeys(row["package"] for row in results), "all"]:
        mirror, wider, survived = (counts[package, verdict] for verdict in VERDICTS)
        total = mirror + wider + survived
        print(f"{package:14}{total:9}{mirror:8}{wider:7}{survived:10}{(total - survived) / total:8.0%}")


def main() -> None:
    """Draw a sample, try what has no result yet, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=200, help="number of mistakes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--packages", default=",".join(PACKAGES), help="separated by commas; default: %(default)s")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "guidino-mutate")
    parser.add_argument("--mirror-only", action="store_true", help="leave out the tests of other packages")
    parser.add_argument("--list", action="store_true", help="show the sample and end")
    parser.add_argument("-o", "--out", type=Path, default=Path("mutants.jsonl"), help="results, one a line")
    options = parser.parse_args()
    packages = options.packages.split(",")
    sample = draw_sample(options.sample, options.seed, packages)
    if options.list:
        for item in sample:
            print(f"{item.file}:{item.line} {item.kind}\n{item.diff((ROOT / item.file).read_bytes())}")
        return
    options.cache.mkdir(parents=True, exist_ok=True)
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    results = {row["name"]: row for row in map(json.loads, lines)}
    with tempfile.TemporaryDirectory(prefix="guidino-mutate-") as folder:
        trial = Trial(Path(folder), packages, options.cache, mirror_only=options.mirror_only)
        quickest_first = sorted(sample, key=lambda item: sum(map(trial.seconds.get, trial.find_tests(item)["mirror"])))
        for item in quickest_first:
            before = results.get(item.name)
            needs_wider = before and before["verdict"] == "survived" and before["mirror_only"] and not trial.mirror_only
            if before and not needs_wider:
                continue
            results[item.name] = trial.run(item, before)
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(results[item.name]) + "\n")
            print(results[item.name]["verdict"], item.file, item.line, file=sys.stderr)
    print_report([results[item.name] for item in sample])


if __name__ == "__main__":
    main()
