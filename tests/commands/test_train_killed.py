"""`guidino train` in a process of its own that is killed again and again: the weights are those of a quiet run."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the mother process needs fork")

SEED = 20
EPOCHS = 12

PRESET = f"""
model: {{segmenter: {{name: unet, options: {{width: 4}}}}}}
data: {{image_size: 32}}
train: {{epochs: {EPOCHS}, batch_size: 2, lr: 1e-2, validate_every: 4, save_minutes: 0.0005}}
predict: {{overlap: 0, mirror: false}}
"""

# Importing torch takes longer than these runs: one process does it, and every run is a child of it. It has computed
# nothing before, so a child begins as a fresh `guidino` does. Pictures are left out.
MOTHER = """
import json, os, sys
import torch._dynamo  # Else every run imports it for its optimiser.
from guidino_cli.cli import main
from guidino_cli.commands import train
train.draw_curve = train.draw_validation = lambda *_, **__: None
train.curve_keeper = lambda *_: None
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        sys.argv = ["guidino", *json.loads(line)]
        main()
        sys.exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Mother:
    """Starts runs, each a process of its own."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, "-c", MOTHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("wb"),
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def start(self, *words: object) -> int:
        """The process id of `guidino WORDS`."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(word) for word in words]) + "\n")
        self.process.stdin.flush()
        return self._number()

    def wait(self) -> int:
        """The exit code of the last run; -9 after SIGKILL."""
        return self._number()

    def _number(self) -> int:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        return int(line)


@pytest.fixture(scope="module")
def mother(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mother]:
    mother = Mother(tmp_path_factory.mktemp("mother") / "stderr.txt")
    yield mother
    mother.process.communicate()


def test_a_run_killed_three_times_and_interrupted_once_ends_with_the_same_weights(
    mother: Mother, make_data: Callable[..., Path], tmp_path: Path
) -> None:
    """Where it is killed: some saved states and up to 40 ms after a start, by the numbers that follow SEED."""
    chance, killed = random.Random(SEED), tmp_path / "killed"
    (tmp_path / "tiny.yaml").write_text(PRESET)
    words = ("train", "-p", tmp_path / "tiny.yaml", "-d", make_data(train=8), "--device", "cpu")
    resume = ("train", "--resume", "--device", "cpu", "-o", killed)

    mother.start(*words, "-o", tmp_path / "quiet")
    assert mother.wait() == 0, mother.log.read_text()

    run = mother.start(*words, "-o", killed)
    for how, code in [(signal.SIGKILL, -9)] * 3 + [(signal.SIGINT, 130)]:
        _watch(killed, saves=chance.randint(1, 4))
        time.sleep(chance.random() * 0.04)
        os.kill(run, how)
        assert mother.wait() == code, mother.log.read_text()
        run = mother.start(*resume)
    assert mother.wait() == 0, mother.log.read_text()

    assert f"guidino train --resume -o {killed}" in mother.log.read_text()
    assert _digest(killed) == _digest(tmp_path / "quiet")
    assert _history(killed) == _history(tmp_path / "quiet")
    assert len(_history(killed)) == EPOCHS


def _watch(run: Path, *, saves: int) -> None:
    """Return when a run has saved its state so many times."""
    state, seen, end = run / "last" / "state.pt", set[int](), time.monotonic() + 120
    if state.is_file():
        seen.add(state.stat().st_mtime_ns)
        saves += 1
    while len(seen) < saves:
        assert time.monotonic() < end, "the run does not get on"
        try:
            seen.add(state.stat().st_mtime_ns)
        except FileNotFoundError:
            time.sleep(0.001)
        time.sleep(0.001)


def _digest(run: Path) -> str:
    return hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()


def _history(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]
