"""`guidino train` in a process that is killed again and again: the weights are those of an uninterrupted run."""

import hashlib
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEED = 20
EPOCHS = 12

PRESET = f"""
model: {{segmenter: {{name: unet, options: {{width: 4}}}}}}
data: {{image_size: 32}}
train: {{epochs: {EPOCHS}, batch_size: 2, lr: 1e-2, validate_every: 4, save_minutes: 0.0005}}
predict: {{overlap: 0, mirror: false}}
"""


def test_a_run_killed_three_times_and_interrupted_once_ends_with_the_same_weights(
    fork_server: Any,
    wait_for_saves: Callable[..., None],
    read_history: Callable[..., Any],
    make_data: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Where it is killed: some saved states and up to 40 ms after a start, by the numbers that follow SEED."""
    chance, quiet, killed = random.Random(SEED), tmp_path / "quiet", tmp_path / "killed"
    (tmp_path / "tiny.yaml").write_text(PRESET)
    words = ("train", "-p", tmp_path / "tiny.yaml", "-d", make_data(train=8))

    fork_server.start(*words, "-o", quiet)
    fork_server.wait(0)

    fork_server.start(*words, "-o", killed)
    for how, code in [(signal.SIGKILL, -9)] * 3 + [(signal.SIGINT, 130)]:
        wait_for_saves(killed, saves=chance.randint(1, 4))
        time.sleep(chance.random() * 0.04)
        fork_server.send_signal(how)
        fork_server.wait(code)
        fork_server.start("train", "--resume", "-o", killed)
    fork_server.wait(0)

    assert f"guidino train --resume -o {killed}" in fork_server.log.read_text()
    assert _digest(killed) == _digest(quiet)
    assert read_history(killed) == read_history(quiet)
    assert len(read_history(killed)) == EPOCHS


def _digest(run: Path) -> str:
    return hashlib.sha256((run / "best" / "model.safetensors").read_bytes()).hexdigest()
