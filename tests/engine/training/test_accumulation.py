"""Gradient accumulation: small batches that are summed before a step are one large batch."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from guidino_cli.config import parse
from guidino_cli.data.manifest import load_manifest
from guidino_cli.engine.run_folder import RunFolder, own_tensors, run_facts, with_root
from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.models import build_model


def _trained(data: Path, out: Path, *, batch_size: int, accumulate: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses and weights after two epochs of a network without batch statistics and a loss that is a mean of pixels."""
    config = parse(
        {
            "model": {"segmenter": {"name": "nnunet", "options": {"widths": [4, 8, 8], "blocks": [1, 1, 1]}}},
            "data": {"image_size": 32, "augment": "light"},
            # Not AdamW: it makes steps of rounding errors where a gradient is 0, as before instance normalisation.
            "train": {
                "epochs": 2, "batch_size": batch_size, "accumulate": accumulate, "lr": 0.01, "optimizer": "sgd",
                "loss": {"cross_entropy": 1},
            },
            "predict": {"overlap": 0, "mirror": False},
        }
    )  # fmt: skip
    config, manifest = with_root(config, data), load_manifest(data)
    torch.manual_seed(0)
    model = build_model(config.model, num_classes=2, offline=True)
    folder = RunFolder(out)
    folder.create(config, run_facts(model, classes=manifest.classes, data=data))
    train, val = manifest.select("train"), manifest.select("val")
    Trainer(model, config, folder, num_classes=2, training=train, validation=val, device="cpu").fit()
    rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows], own_tensors(model)


def test_two_batches_of_two_are_a_batch_of_four(make_data: Callable[..., Path], tmp_path: Path) -> None:
    data = make_data(train=8)
    summed_losses, summed = _trained(data, tmp_path / "summed", batch_size=2, accumulate=2)
    # Accelerate settles the number of summed batches for the life of the process.
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    losses, whole = _trained(data, tmp_path / "whole", batch_size=4, accumulate=1)
    assert summed_losses == pytest.approx(losses, rel=1e-4)
    for name, value in whole.items():
        torch.testing.assert_close(summed[name], value, rtol=1e-3, atol=1e-4)
