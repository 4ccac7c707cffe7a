"""`guidino pretrain` in its own process, killed and interrupted: it ends with the same backbone as without."""

import hashlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def test_a_run_killed_and_interrupted_ends_with_the_same_backbone(
    fork_server: Any,
    wait_for_saves: Callable[..., None],
    read_history: Callable[..., Any],
    ten_images: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "tiny.yaml").write_text(PRESET)
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    arguments = ("pretrain", ten_images, "-p", tmp_path / "tiny.yaml")

    fork_server.start(*arguments, "-o", quiet)
    fork_server.wait(0)

    fork_server.start(*arguments, "-o", killed)
    for saves, how, code in ((2, signal.SIGKILL, -9), (3, signal.SIGKILL, -9), (1, signal.SIGINT, 130)):
        wait_for_saves(killed, saves=saves)
        fork_server.send_signal(how)
        fork_server.wait(code)
        fork_server.start("pretrain", "--resume", "-o", killed)
    fork_server.wait(0)

    assert f"guidino pretrain --resume -o {killed}" in fork_server.log.read_text()
    assert _digest(killed) == _digest(quiet)
    assert read_history(killed) == read_history(quiet)
    assert read_history(killed)[-1]["step"] == STEPS


def _digest(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
