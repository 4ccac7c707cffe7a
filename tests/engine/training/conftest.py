"""Shared by the tests of the training loop: trainers of a tiny network, and the comparison of two runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.config import RunConfig, override
from guidino_cli.data.manifest import load_manifest
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.models import build_model
from guidino_cli.types import Case

BASE = (
    "model.segmenter={name: unet, options: {width: 4}}",
    "data.image_size=32",
    "train.batch_size=2",
    "train.lr=1e-2",
    "train.epochs=3",
    "predict.overlap=0",
)
GUIDED = (
    "model.backbone={name: random, options: {hidden_size: 32, depth: 1, heads: 2}}",
    "model.guide={at: bottleneck, options: {prototypes: 4, aggregate: softmax}}",
    "train.loss.guide=0.1",
)


@pytest.fixture
def guided() -> tuple[str, ...]:
    """Settings of a tiny guide."""
    return GUIDED


@pytest.fixture
def make_trainer() -> Callable[..., Trainer]:
    """Make a trainer of a tiny U-Net on the CPU: `make_trainer(data, out, "train.epochs=1")`."""
    return _trainer


def _trainer(
    data: Path,
    out: Path,
    *settings: str,
    training: Sequence[Case] | None = None,
    validation: Sequence[Case] | None = None,
    device: str | None = "cpu",
) -> Trainer:
    from accelerate.state import AcceleratorState, GradientState
    from accelerate.utils import set_seed

    # A user's process has one run.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    config, manifest = override(RunConfig(), [*BASE, *settings]), load_manifest(data)
    set_seed(config.seed)
    return Trainer(
        build_model(config.model, num_classes=len(manifest.classes)),
        config,
        RunFolder(out),
        num_classes=len(manifest.classes),
        training=manifest.select("train") if training is None else training,
        validation=manifest.select("val") if validation is None else validation,
        device=device,
    )


@pytest.fixture
def outcome() -> Callable[[Trainer], tuple[list[dict[str, Any]], dict[str, torch.Tensor]]]:
    """What a run came to: its history without what the clock decides, and a copy of its weights."""
    return lambda trainer: (_history(trainer), {k: v.clone() for k, v in trainer.model.state_dict().items()})


@pytest.fixture
def same(outcome: Callable[..., Any]) -> Callable[[Trainer, Trainer], bool]:
    """Whether two runs came to the same, bit for bit."""

    def compare(one: Trainer, other: Trainer) -> bool:
        (rows, weights), (other_rows, other_weights) = outcome(one), outcome(other)
        return rows == other_rows and all(torch.equal(weights[key], other_weights[key]) for key in weights)

    return compare


def _history(trainer: Trainer) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in trainer.folder.history()]
