"""`guidino train` in two processes with dropout: drawn separately in each, also after a kill."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.engine.runs.folder import RunFolder

PRESET = """
model:
  segmenter: {name: unet, options: {width: 4}}
  backbone: {name: random, options: {hidden_size: 32, depth: 2, heads: 2}}
  guide: {at: bottleneck, options: {prototypes: 4}}
  finetune: {drop_path: 0.5}
data: {image_size: 32, augment: none}
train: {epochs: 4, batch_size: 2, lr: 1e-2, validate_every: 2, save_minutes: 0.0005}
predict: {overlap: 0, mirror: false}
"""


@pytest.fixture(scope="module")
def words(make_data_in: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """What begins a run, but for `-o`."""
    place = tmp_path_factory.mktemp("data")
    (place / "tiny.yaml").write_text(PRESET)
    return ["train", "-p", place / "tiny.yaml", "-d", make_data_in(place, train=8, val=2)]


@pytest.fixture(scope="module")
def two(fork_server: Any, words: list[object], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of two processes."""
    run = tmp_path_factory.mktemp("two") / "run"
    fork_server.start(*words, "-o", run, processes=2)
    fork_server.wait(0, 0)
    return RunFolder(run)


def test_each_process_draws_its_own_dropout(two: RunFolder) -> None:
    first, second = (torch.Generator().set_state(state["torch"]) for state in two.load_state()["random"])
    assert not torch.equal(torch.rand(8, generator=first), torch.rand(8, generator=second))


def test_two_killed_processes_resume_and_end_with_the_same_weights(
    fork_server: Any,
    two: RunFolder,
    words: list[object],
    read_history: Callable[..., Any],
    wait_for_saves: Callable[..., None],
    tmp_path: Path,
) -> None:
    run = RunFolder(tmp_path / "run")
    fork_server.start(*words, "-o", run.path, processes=2)
    wait_for_saves(run.path, saves=3)
    fork_server.send_signal(signal.SIGKILL)
    fork_server.wait(-9, -9)
    fork_server.start("train", "--resume", "-o", run.path, processes=2)
    fork_server.wait(0, 0)
    assert run.weights.read_bytes() == two.weights.read_bytes()
    assert read_history(run.path) == read_history(two.path)
