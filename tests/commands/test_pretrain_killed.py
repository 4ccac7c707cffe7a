"""`guidino pretrain` in a process of its own that is killed and interrupted: the backbone is that of a quiet run."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the mother process needs fork")

STEPS = 14

PRESET = f"""
student: {{name: random, options: {{hidden_size: 32, depth: 1, heads: 2}}}}
data: {{side: 32}}
train: {{batch_size: 2, accumulate: 2, log_every: 3, picture_every: 0, save_minutes: 0.0005, drop_path: 0.3}}
dino: {{prototypes: 16, patch_prototypes: 16, hidden: 16, bottleneck: 8, local_count: 1, gram_step: 4}}
stages:
  - {{name: one, steps: 7, lr: 1e-3, momentum: 0.9, crops: [{{global_size: 32, local_size: 16}}]}}
  - {{name: two, steps: {STEPS - 7}, lr: 1e-3, momentum: 0.9, gram: 2, crops: [{{global_size: 32, local_size: 16}}]}}
"""

# Importing torch takes longer than these runs: one process does it, and every run is a child of it.
MOTHER = """
import json, os, sys
import torch._dynamo
from guidino_cli.cli import main
from guidino_cli.commands import pretrain
pretrain.draw_curve = lambda *_: None
pretrain.curve_keeper = lambda *_: None
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


def test_a_run_killed_and_interrupted_ends_with_the_same_backbone(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(PRESET)
    images, killed, log = _images(tmp_path), tmp_path / "killed", tmp_path / "stderr.txt"
    mother = subprocess.Popen(
        [sys.executable, "-c", MOTHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log.open("wb"),
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    def start(*words: object) -> int:
        mother.stdin.write(json.dumps([str(word) for word in words]) + "\n")  # type: ignore[union-attr]
        mother.stdin.flush()  # type: ignore[union-attr]
        return ended()

    def ended() -> int:
        line = mother.stdout.readline()  # type: ignore[union-attr]
        assert line, log.read_text()
        return int(line)

    first = ("pretrain", images, "-p", tmp_path / "tiny.yaml", "--device", "cpu", "-o")
    start(*first, tmp_path / "quiet")
    assert ended() == 0, log.read_text()

    run = start(*first, killed)
    for saves, how, code in ((2, signal.SIGKILL, -9), (3, signal.SIGKILL, -9), (1, signal.SIGINT, 130)):
        _watch(killed, saves=saves)
        os.kill(run, how)
        assert ended() == code, log.read_text()
        run = start("pretrain", "--resume", "-o", killed, "--device", "cpu")
    assert ended() == 0, log.read_text()
    mother.communicate()

    assert f"guidino pretrain --resume -o {killed}" in log.read_text()
    assert _digest(killed) == _digest(tmp_path / "quiet")
    assert _history(killed) == _history(tmp_path / "quiet")
    assert _history(killed)[-1]["step"] == STEPS


def _images(place: Path) -> Path:
    (place / "images").mkdir()
    for number in range(10):
        pixels = np.random.default_rng(number).integers(0, 256, (36, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(place / "images" / f"{number}.png")
    return place / "images"


def _watch(run: Path, *, saves: int) -> None:
    """Return when a run has saved its state so many times from now on."""
    state, end = run / "last" / "state.pt", time.monotonic() + 180
    seen = {state.stat().st_mtime_ns} if state.is_file() else set[int]()
    wanted = len(seen) + saves
    while len(seen) < wanted:
        assert time.monotonic() < end, "the run does not get on"
        with contextlib.suppress(FileNotFoundError):
            seen.add(state.stat().st_mtime_ns)
        time.sleep(0.001)


def _digest(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def _history(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]
