"""Fuzz test of the whole command line, by hand: `python tests/fuzz.py -o FOLDER --minutes 30`.

Every case is a real command on one damaged file, in a fork of this process, which has imported everything. A failure is
exit code 1 or one that is not documented, a traceback, a refusal that does not name the file, a hang, much memory, or
success although nothing usable was left. Files and output of failures are kept in FOLDER.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from fuzzing.commands import TARGETS, Target, make_workspace
from fuzzing.mutators import mutate

_SECONDS, _MEGABYTES = 30, 2000
# Seconds are those of the processor, so that a busy machine makes no failures; a case that waits forever ends here.
_PATIENCE = 150
# What a documented command may answer; 1 is a bug, and one bad file is no reason to run out of memory (7).
_CODES = {0, 2, 3, 4, 5, 6, 8}


@dataclass
class Outcome:
    """What a command on a damaged file did; `problem` is "" if that was right."""

    code: int
    seconds: float
    megabytes: float
    output: str
    problem: str = ""


@dataclass
class Tally:
    """Results of one reader."""

    codes: Counter[int] = field(default_factory=Counter)
    failures: int = 0
    seconds: float = 0.0
    megabytes: float = 0.0


def main() -> int:
    """Run cases until the time is over; 1 if there were failures."""
    arguments = _parse()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    workspace = make_workspace(out / "workspace", fork)
    wanted = arguments.reader.split(",") if arguments.reader else sorted({target.reader for target in TARGETS})
    targets = [target for target in TARGETS if target.reader in wanted]
    _require_valid(targets, workspace, out / "case")
    tallies: dict[str, Tally] = defaultdict(Tally)
    end, number = time.monotonic() + 60 * arguments.minutes, arguments.first
    while time.monotonic() < end and number - arguments.first < arguments.cases:
        rng = random.Random(f"{arguments.seed} {number}")
        # Readers take turns: there are more targets of some than of others.
        reader = wanted[number % len(wanted)]
        target = rng.choice([target for target in targets if target.reader == reader])
        outcome = _run_case(target, workspace, rng, out / "case")
        tally = tallies[reader]
        tally.codes[outcome.code] += 1
        tally.seconds = max(tally.seconds, outcome.seconds)
        tally.megabytes = max(tally.megabytes, outcome.megabytes)
        if outcome.problem:
            tally.failures += 1
            _keep(out, number, target, outcome)
        number += 1
        if number % 100 == 0:
            print(f"{number} cases, {sum(item.failures for item in tallies.values())} failures", flush=True)
    shutil.rmtree(out / "case", ignore_errors=True)
    _print_table(tallies)
    return int(any(tally.failures for tally in tallies.values()))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the workspace and for failures")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--cases", type=int, default=10**9, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case, to repeat one")
    parser.add_argument("--reader", help="only these, comma-separated")
    return parser.parse_args()


def _require_valid(targets: list[Target], workspace: Path, folder: Path) -> None:
    """Every command must succeed on the valid file: one that always refuses would test nothing."""
    for target in targets:
        shutil.rmtree(folder, ignore_errors=True)
        file = target.prepare(workspace, folder, random.Random(0))
        outcome = fork(target.command(folder, file), folder / "output.txt")
        if outcome.code:
            sys.exit(f"{target.reader} ({target.name}) fails on a valid file: {outcome.output}")


def _run_case(target: Target, workspace: Path, rng: random.Random, folder: Path) -> Outcome:
    shutil.rmtree(folder, ignore_errors=True)
    damaged = target.prepare(workspace, folder, rng)
    before = damaged.read_bytes()
    content = mutate(rng, before, target.mutators)
    damaged.write_bytes(content)
    argv = target.command(folder, damaged)
    (folder / "command.txt").write_text(" ".join(["guidino", *argv]) + "\n")
    outcome = fork(argv, folder / "output.txt")
    # Without any byte, or without most of them, nothing can be read; text may still have a meaning.
    is_hopeless = len(content) < (len(before) // 3 if target.is_binary else 1) and not target.may_ignore
    outcome.problem = _find_problem(outcome, damaged, is_hopeless=is_hopeless, names_file=target.names_file)
    return outcome


def _find_problem(outcome: Outcome, damaged: Path, *, is_hopeless: bool, names_file: bool) -> str:
    if outcome.seconds > _SECONDS:
        return f"{outcome.seconds:.0f} seconds"
    if outcome.code not in _CODES:
        return f"exit code {outcome.code}"
    if "Traceback" in outcome.output:
        return "traceback"
    if outcome.megabytes > _MEGABYTES:
        return f"{outcome.megabytes:.0f} MB"
    if outcome.code == 0 and is_hopeless:
        return "success with a file of which nothing is left"
    if outcome.code in {2, 3, 4, 6} and names_file and damaged.stem not in outcome.output:
        return "the file is not named"
    return ""


def fork(argv: list[str], output: Path) -> Outcome:
    """Run a command in a fork of this process; its output goes to a file."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _become_command(argv, output)
    status, usage = _wait(child, start + _PATIENCE)
    # The peak of a fork begins with what it inherits.
    grown = (usage.ru_maxrss - _resident_kilobytes()) / 1000
    text = output.read_text(encoding="utf-8", errors="replace")
    return Outcome(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, max(0.0, grown), text)


def _become_command(argv: list[str], output: Path) -> None:
    code = 99
    try:
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        # A net under the measurement, so that the machine survives.
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS + 5, _SECONDS + 5))
        limit = 4 * _MEGABYTES * 10**6
        resource.setrlimit(resource.RLIMIT_AS, (_virtual_bytes() + limit, _virtual_bytes() + limit))
        sys.argv = ["guidino", *argv]
        from guidino_cli.cli import main as guidino

        guidino()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _wait(child: int, end: float) -> tuple[int, resource.struct_rusage]:
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        if found:
            return status, usage
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            return status, usage
        time.sleep(0.005)


def _resident_kilobytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1000


def _virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _keep(out: Path, number: int, target: Target, outcome: Outcome) -> None:
    place = out / "failures" / f"{number:06d}-{target.reader}"
    place.parent.mkdir(exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(out / "case", place, symlinks=True)
    (place / "problem.txt").write_text(outcome.problem + "\n")
    last = outcome.output.strip().splitlines()[-1:] or [""]
    print(f"{number} {target.reader} ({target.name}): {outcome.problem}: {last[0][:200]}", flush=True)


def _print_table(tallies: dict[str, Tally]) -> None:
    print(f"{'reader':14}{'cases':>7}{'failures':>10}{'worst s':>9}{'worst MB':>10}  exit codes")
    total = Tally()
    for reader, tally in sorted(tallies.items()):
        total.codes.update(tally.codes)
        total.failures += tally.failures
        total.seconds, total.megabytes = max(total.seconds, tally.seconds), max(total.megabytes, tally.megabytes)
        _print_row(reader, tally)
    _print_row("all", total)


def _print_row(name: str, tally: Tally) -> None:
    codes = ", ".join(f"{code}: {count}" for code, count in sorted(tally.codes.items()))
    cases = sum(tally.codes.values())
    print(f"{name:14}{cases:7}{tally.failures:10}{tally.seconds:9.1f}{tally.megabytes:10.0f}  {codes}")


if __name__ == "__main__":
    sys.exit(main())
