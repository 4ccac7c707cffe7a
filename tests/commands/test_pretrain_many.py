"""`guidino pretrain` in two processes: the same run as one process with twice the batch, also after a kill."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

STEPS, RATE, CROPS = 8, 1e-3, "[{global_size: 32, local_size: 16}]"

# How much of which view is masked is drawn for the batch of a process: here all of them, and equally much. KoLeo has
# neighbours in the whole batch, also where two processes share it.
PRESET = f"""
student: {{name: random, options: {{hidden_size: 32, depth: 2, heads: 2}}}}
data: {{side: 40}}
train: {{batch_size: 4, log_every: 2, picture_every: 0, save_minutes: 0.0002}}
dino:
  {{prototypes: 16, patch_prototypes: 16, hidden: 16, bottleneck: 8, last_std: 0.1, local_count: 2, masked: 1,
  mask_ratio: [0.4, 0.4], freeze_last: 2, gram_step: 4}}
stages:
  - {{name: one, steps: 4, lr: {RATE}, momentum: 0.5, koleo_group: 4, crops: {CROPS}}}
  - {{name: two, steps: {STEPS - 4}, lr: {RATE}, momentum: 0.5, koleo_group: 4, gram: 2, crops: {CROPS}}}
"""


@pytest.fixture(scope="module")
def arguments(ten_images: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """What begins a run, but for `-o`."""
    preset = tmp_path_factory.mktemp("preset") / "tiny.yaml"
    preset.write_text(PRESET)
    return ["pretrain", ten_images, "-p", preset]


@pytest.fixture(scope="module")
def two(fork_server: Any, arguments: list[object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes with batches of two."""
    run = tmp_path_factory.mktemp("two") / "run"
    fork_server.start(*arguments, "-o", run, "--set", "train.batch_size=2", processes=2)
    fork_server.wait(0, 0)
    return run


def test_two_processes_equal_one_with_twice_the_batch(
    fork_server: Any, two: Path, arguments: list[object], read_history: Callable[..., Any], tmp_path: Path
) -> None:
    fork_server.start(*arguments, "-o", tmp_path / "one")
    fork_server.wait(0)
    ours, theirs = read_history(two), read_history(tmp_path / "one")
    assert len(ours) == len(theirs) == STEPS / 2
    for our, their in zip(ours, theirs, strict=True):
        assert our.keys() == their.keys()
        # Of the features of the last batch, the main process looks at its own.
        for name in our.keys() - {"stage", "cosine"}:
            assert our[name] == pytest.approx(their[name], rel=1e-4), name
    our_weights, their_weights = (load_file(run / "model.safetensors") for run in (two, tmp_path / "one"))
    for name in their_weights:
        # A hundredth of what a step of Adam changes; the runs differ in the order of their sums alone.
        torch.testing.assert_close(our_weights[name], their_weights[name], rtol=0, atol=RATE / 100)


def test_two_killed_processes_resume_and_end_with_the_same_weights(
    fork_server: Any,
    two: Path,
    arguments: list[object],
    read_history: Callable[..., Any],
    wait_for_saves: Callable[..., None],
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    fork_server.start(*arguments, "-o", run, "--set", "train.batch_size=2", processes=2)
    for how, codes in ((signal.SIGKILL, (-9, -9)), (signal.SIGINT, (130, 130))):
        wait_for_saves(run, saves=2)
        fork_server.send_signal(how)
        fork_server.wait(*codes)
        fork_server.start("pretrain", "--resume", "-o", run, processes=2)
    fork_server.wait(0, 0)
    assert (run / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    assert read_history(run) == read_history(two)
