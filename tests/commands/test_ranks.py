"""Runs of several processes: cases that cannot be shared out evenly, and ranks that fail, are killed or are stopped."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.processes import usable_cpus

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
    import pathlib, time
    from guidino_cli.engine.training import trainer

    original, steps = trainer.Trainer._train_on_batch, []

    def fail(self, batch):
        steps.append(1)
        if len(steps) == 3:
            pathlib.Path({clock!r}).write_text(str(time.time()))
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
_SAVE_EVERY_STEP = ("--set", "train.save_minutes=1e-9")


def _allowed_seconds() -> float:
    """The limit on a machine that has a core for each of its processes; more of them wait for each other."""
    return _LIMIT_SECONDS * max(1.0, max(os.getloadavg()) / usable_cpus())


class Bench:
    """Runs of `guidino train` on one data folder, all below one place."""

    def __init__(self, place: Path, data: Path, fork_server: Any) -> None:
        self.place, self.data, self._fork_server = place, data, fork_server
        (place / "run.yaml").write_text(_PRESET)

    def fail(self, way: str, processes: int) -> tuple[subprocess.CompletedProcess[str], float]:
        """What came of the run `broken`, of which rank 1 fails in its third step, and the seconds since then."""
        clock, folder = self.place / "failed at", self.place / "failing"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_FAILING.format(what=_WAYS[way], clock=str(clock)))
        path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        line = [sys.executable, "-m", "guidino_cli", "train", *self._new("broken"), "--device", "cpu"]
        line += ["--devices", str(processes), *_SAVE_EVERY_STEP]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        # The output ends when the last process that could write to it has ended, not only the first.
        outcome = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=600)
        return outcome, time.time() - float(clock.read_text())

    def resume(self, processes: int, code: int = 0) -> str:
        """Resume `broken`; returns what is new in the log."""
        before = len(self._fork_server.log.read_text())
        self._fork_server.start("train", "--resume", "-o", self.place / "broken", processes=processes)
        self._fork_server.wait(*[code] * processes)
        log: str = self._fork_server.log.read_text()
        return log[before:]

    def stop_early(self, processes: int, wait: Callable[..., None]) -> None:
        """Kill all processes of the run `broken` after two steps."""
        self._fork_server.start("train", *self._new("broken"), *_SAVE_EVERY_STEP, processes=processes)
        wait(self.place / "broken", saves=3)
        self._fork_server.send_signal(signal.SIGKILL)
        self._fork_server.wait(*[-signal.SIGKILL] * processes)

    def whole(self, processes: int) -> dict[str, torch.Tensor]:
        """Weights of a run in which nothing fails."""
        self._fork_server.start("train", *self._new("whole"), processes=processes)
        self._fork_server.wait(*[0] * processes)
        return self.weights("whole")

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        state = torch.load(self.place / name / "last" / "state.pt", weights_only=True)
        weights: dict[str, torch.Tensor] = state["model"]
        return weights

    def _new(self, name: str) -> list[str]:
        return ["-p", str(self.place / "run.yaml"), "-d", str(self.data), "-o", str(self.place / name)]


@pytest.fixture
def bench(tmp_path: Path, make_data: Any, fork_server: Any) -> Bench:
    return Bench(tmp_path, make_data(train=9, val=2, test=0), fork_server)


@pytest.mark.parametrize(
    ("way", "processes", "code", "line"),
    [
        ("raises", 2, 1, r"guidino: rank 1 of 2 \(from 0\): KeyError: 'of rank 1' \(a bug: .*"),
        ("out of memory", 2, 7, r"guidino: rank 1 of 2 \(from 0\): out of memory \(CUDA error: CUBLAS_STATUS_ALLOC_.*"),
        ("killed", 3, 7, r"guidino: rank 1 of 3 \(from 0\) was killed by signal 9 \(SIGKILL\), .* with --resume.*"),
        ("stopped", 2, 7, r"guidino: rank 1 of 2 \(from 0\) was stopped by a signal \(SIGSTOP\) .* with --resume"),
        ("stopped", 3, 7, r"guidino: rank 1 of 3 \(from 0\) was stopped by a signal \(SIGSTOP\) .* with --resume"),
    ],
)
def test_one_line_names_the_rank_and_the_cause_within_30_seconds_and_the_run_goes_on(
    way: str,
    processes: int,
    code: int,
    line: str,
    bench: Bench,
    read_history: Callable[[Path], list[dict[str, Any]]],
) -> None:
    outcome, seconds = bench.fail(way, processes)
    assert outcome.returncode == code, outcome.stderr
    errors = [text for text in outcome.stderr.splitlines() if text.startswith("guidino: ") and "rank " in text]
    assert len(errors) == 1, outcome.stderr
    assert re.fullmatch(line, errors[0]), errors[0]
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.count("a bug") == (way == "raises")
    assert seconds < _allowed_seconds()
    bench.resume(processes)
    whole, resumed = bench.whole(processes), bench.weights("broken")
    if processes == 2:
        assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    # Two summands have one order. Three may have another after the first step of a process, for which torch sorts the
    # gradients anew; weights of which nothing depends then follow the rounding.
    ours, theirs = (read_history(bench.place / name) for name in ("broken", "whole"))
    assert len(ours) == len(theirs) == 2
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)


def test_another_number_of_processes_is_refused_with_the_number_to_use(
    bench: Bench, wait_for_saves: Callable[..., None]
) -> None:
    """The batches would be others."""
    bench.stop_early(processes=2, wait=wait_for_saves)
    for others in (1, 3):
        log = bench.resume(others, code=2)
        now = f"saved by 2 processes, but now there are {others}; resume with as many as before: add --devices 2"
        assert now in log
    bench.resume(2)
