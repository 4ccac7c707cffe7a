"""Runs of several processes: cases that cannot be shared out evenly, and ranks that fail, are killed or are stopped."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="needs gloo, fork and SIGSTOP")]

# Normalised image by image: batch normalisation would see other statistics in a batch that is cut in three.
_PRESET = """
model:
  segmenter: {name: nnunet, options: {widths: [4, 8, 8], blocks: [1, 1, 1]}}
data: {image_size: 32, augment: light}
train: {epochs: 2, batch_size: 1, lr: 1e-2, accumulate: 2, workers: 0}
predict: {overlap: 0, mirror: false}
"""
_LORA = """
  backbone: {name: random, options: {hidden_size: 32, depth: 1, heads: 2}}
  guide: {at: bottleneck, options: {prototypes: 4, aggregate: softmax}}
  lora: {rank: 2, alpha: 4, dropout: 0.0}
"""


@pytest.mark.parametrize("lora", [False, True], ids=["plain", "LoRA"])
def test_three_ranks_are_one_with_three_times_the_batch(
    lora: bool, fork_server: Any, read_history: Callable[[Path], list[dict[str, Any]]], make_data: Any, tmp_path: Path
) -> None:
    """Ten cases, nine of them used: three steps an epoch, of which two make one update and the last one by itself.

    Four validation cases: two for one rank and one for each of the others.
    """
    data = make_data(train=10, val=4, test=0)
    preset = _PRESET.replace("data:", _LORA.lstrip("\n") + "data:") if lora else _PRESET
    (tmp_path / "three.yaml").write_text(preset)
    (tmp_path / "one.yaml").write_text(preset.replace("batch_size: 1", "batch_size: 3"))
    for name, processes in (("three", 3), ("one", 1)):
        words = ("-p", tmp_path / f"{name}.yaml", "-d", data, "-o", tmp_path / name, "--offline")
        fork_server.start("train", *words, processes=processes)
        fork_server.wait(*[0] * processes)
    three, one = read_history(tmp_path / "three"), read_history(tmp_path / "one")
    assert len(three) == len(one) == 2
    for ours, theirs in zip(three, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)


# --- Ranks that fail. Each test starts real processes by `--devices`; rank 1 is made to fail in its third step.

_FAILING = """
import os
if os.environ.get("RANK") == "1":
    from guidino_cli.engine.training import trainer

    original, steps = trainer.Trainer._train_on_batch, []

    def fail(self, batch):
        steps.append(1)
        if len(steps) == 3:
            {what}
        original(self, batch)

    trainer.Trainer._train_on_batch = fail
"""
_WAYS = {
    "raises": "raise KeyError('of rank 1')",
    "out of memory": "raise RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`')",
    "killed": "import signal; os.kill(os.getpid(), signal.SIGKILL)",
    "stopped": "import signal; os.kill(os.getpid(), signal.SIGSTOP)",
}
_LIMIT_SECONDS = 30
_FOR_A_BUSY_MACHINE = 4


class Bench:
    """Runs of `guidino train` in processes of their own."""

    def __init__(self, place: Path, data: Path) -> None:
        self.place, self.data = place, data
        (place / "run.yaml").write_text(_PRESET)

    def train(self, *words: str, fails: str | None = None) -> subprocess.CompletedProcess[str]:
        """Train in 2 processes, or resume with what is in `words`."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if fails is not None:
            (self.place / "failing").mkdir(exist_ok=True)
            (self.place / "failing" / "sitecustomize.py").write_text(_FAILING.format(what=_WAYS[fails]))
            known = environment.get("PYTHONPATH", "")
            environment["PYTHONPATH"] = os.pathsep.join([str(self.place / "failing"), *filter(None, [known])])
        line = [sys.executable, "-m", "guidino_cli", "train", "-o", "run", "--device", "cpu", *words]
        return subprocess.run(line, cwd=self.place, env=environment, capture_output=True, text=True, timeout=600)

    def start(self, fails: str) -> tuple[subprocess.CompletedProcess[str], float]:
        """What came of a run in which a rank fails in its third step, and the seconds since."""
        first = ("-p", "run.yaml", "-d", str(self.data), "--devices", "2", "--set", "train.save_minutes=1e-9")
        outcome = self.train(*first, fails=fails)
        # The state is written before each step, and by nobody after the third has begun.
        return outcome, time.time() - (self.place / "run" / "last" / "state.pt").stat().st_mtime


@pytest.fixture
def bench(tmp_path: Path, make_data: Any) -> Bench:
    return Bench(tmp_path, make_data(train=8, val=2, test=0))


@pytest.mark.parametrize(
    ("fails", "code", "line"),
    [
        ("raises", 1, r"guidino: rank 1 of 2 \(from 0\): KeyError: 'of rank 1' \(a bug: .*"),
        ("out of memory", 7, r"guidino: rank 1 of 2 \(from 0\): out of memory \(CUDA error: CUBLAS_STATUS_ALLOC_.*"),
        ("killed", 7, r"guidino: rank 1 of 2 \(from 0\) was killed by signal 9 \(SIGKILL\), .* resume with --resume.*"),
        ("stopped", 7, r"guidino: rank 1 of 2 \(from 0\) was stopped by a signal \(SIGSTOP\) .* resume with --resume"),
    ],
)
def test_one_line_names_the_rank_and_the_cause_and_the_run_goes_on(
    fails: str, code: int, line: str, bench: Bench
) -> None:
    outcome, seconds = bench.start(fails)
    assert outcome.returncode == code, outcome.stderr
    errors = [text for text in outcome.stderr.splitlines() if text.startswith("guidino: ") and "rank " in text]
    assert len(errors) == 1, outcome.stderr
    assert re.fullmatch(line, errors[0]), errors[0]
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.count("a bug") == (fails == "raises")
    assert seconds < _LIMIT_SECONDS * _FOR_A_BUSY_MACHINE
    if fails != "killed":
        return
    # With another number of processes the batches would be others.
    refused = bench.train("--resume")
    assert refused.returncode == 2
    assert "saved by 2 processes, but now there are 1; resume with as many as before: add --devices 2" in refused.stderr
    resumed = bench.train("--resume", "--devices", "2")
    assert resumed.returncode == 0, resumed.stderr
    (bench.place / "whole").mkdir()
    whole = Bench(bench.place / "whole", bench.data)
    assert whole.train("-p", "run.yaml", "-d", str(bench.data), "--devices", "2").returncode == 0
    files = [item.place / "run" / "last" / "state.pt" for item in (bench, whole)]
    ours, theirs = (torch.load(file, weights_only=True)["model"] for file in files)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
