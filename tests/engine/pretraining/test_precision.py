"""Mixed precision of pretraining: what `train.precision=bf16` asks for is what the networks compute in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState, GradientState
from PIL import Image
from torch import nn

from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.engine.pretraining.loop import Pretrainer
from guidino_cli.engine.pretraining.student import build_objective, build_student
from guidino_cli.pretrain_config import PretrainConfig, override_pretrain_config

_SELF_DISTILLATION = """
student: {name: random, options: {hidden_size: 32, depth: 2, heads: 2}}
data: {side: 32, workers: 0}
dino: {prototypes: 16, patch_prototypes: 16, hidden: 16, bottleneck: 8, local_count: 1, freeze_last: 1, gram_step: 1}
stages:
  - {name: one, steps: 1, lr: 1e-3, momentum: 0.5, crops: [{global_size: 32, local_size: 16}]}
  - {name: two, steps: 1, lr: 1e-3, momentum: 0.5, gram: 1, crops: [{global_size: 32, local_size: 16}]}
"""
_DISTILLATION = """
student: {name: random, options: {hidden_size: 16, depth: 1, heads: 2}}
data: {side: 32, workers: 0}
distill: {teacher: {name: random, options: {hidden_size: 32, depth: 1, heads: 2, seed: 3}}, views: 2}
stages: [{name: one, steps: 2, lr: 1e-3, gram: 1.0, crops: [{global_size: 32, local_size: 32}]}]
"""


def _paths(folder: Path) -> list[Path]:
    paths, generator = [folder / f"{number}.png" for number in range(4)], np.random.default_rng(0)
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
    return paths


def _step(text: str, precision: str, folder: Path) -> tuple[dict[str, torch.dtype], float]:
    """Dtype of the output of every linear layer that learns or teaches, and the loss of two steps."""
    # A user's process has one run.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    settings = [f"{key}={json.dumps(value)}" for key, value in yaml.safe_load(text).items()]
    train = ["train.batch_size=2", "train.picture_every=0", f"train.precision={precision}"]
    config = override_pretrain_config(PretrainConfig(), [*settings, *train])
    paths = _paths(folder)
    torch.manual_seed(0)
    student = build_student(config, offline=True)
    objective = build_objective(student, config, paths=paths, features=folder / "teacher")
    place = PretrainFolder(folder / "run")
    place.create(config, {})
    trainer = Pretrainer(objective, config, place, paths=paths, device="cpu")
    seen: dict[str, torch.dtype] = {}

    def watch(name: str) -> Any:
        return lambda module, inputs, output: seen.update({name: output.dtype})

    for name, module in trainer.bare_objective.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(watch(name))
    trainer.objective.train()
    for _ in range(2):
        trainer._step(trainer._load_batches())
    return seen, float(trainer.state.sums["loss"])


@pytest.mark.parametrize("text", [_SELF_DISTILLATION, _DISTILLATION], ids=["self-distillation", "distillation"])
def test_every_linear_layer_computes_in_the_precision_that_was_asked_for(text: str, tmp_path: Path) -> None:
    """All of them computed in float32, whatever was asked for; the loss stays in float32 and hardly changes."""
    for name in ("no", "bf16"):
        (tmp_path / name).mkdir()
    plain, loss = _step(text, "no", tmp_path / "no")
    mixed, other = _step(text, "bf16", tmp_path / "bf16")
    assert set(plain.values()) == {torch.float32}
    assert set(mixed.values()) == {torch.bfloat16}
    assert list(plain) == list(mixed)
    assert other == pytest.approx(loss, rel=0.05)
