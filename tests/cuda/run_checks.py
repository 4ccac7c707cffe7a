"""Checks for `worker.py`: training, validation, prediction and pretraining on the pretended device."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import set_seed
from PIL import Image

from guidino_cli.config import RunConfig, override
from guidino_cli.data.image_writing import write_label_map
from guidino_cli.data.manifest import Manifest, load_manifest, save_manifest
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.losses import GUIDE_LOSSES, PIXEL_LOSSES
from guidino_cli.models import build_model
from guidino_cli.types import Case

CHECKS: dict[str, Callable[[Any, Path], Any]] = {}

_BASE = (
    "model.segmenter={name: unet, options: {width: 4}}",
    "data.image_size=32",
    "train.batch_size=2",
    "train.lr=1e-2",
    "train.epochs=2",
    "train.loss={dice: 1, cross_entropy: 1, boundary: 1}",
    "predict.overlap=0",
)
BACKBONE = "model.backbone={name: random, options: {hidden_size: 32, depth: 1, heads: 2}}"
GUIDE = "model.guide={{at: {at}, options: {{prototypes: 4, aggregate: softmax}}}}"
GUIDE_LOSS = "train.loss={dice: 1, cross_entropy: 1, boundary: 1, guide: 0.1, guide_mse: 0.1}"
_ENLARGED = "model.backbone={name: random, options: {hidden_size: 32, depth: 1, heads: 2, scale: 2.0}}"
"""A grid of 4 x 4 where the bottleneck has 2 x 2."""
_ALL_LOSSES = "train.loss=" + json.dumps({name: 0.5 for name in (*PIXEL_LOSSES, *GUIDE_LOSSES) if name != "affinities"})
"""Affinities are a task of their own."""


def _guided(at: str, *more: str) -> tuple[str, ...]:
    return (BACKBONE, GUIDE.format(at=at), GUIDE_LOSS, *more)


def _closed_form(at: str) -> tuple[str, ...]:
    """As in preset `own-unet`, but for the size of its parts."""
    guide = f"model.guide={{name: ridge, at: {at}, fit: closed-form, tokens: 4, per_class: true}}"
    network = "model.segmenter={name: dilated-cnn, options: {}}"
    return (BACKBONE, guide, network, "model.reduction=2", "data.augment=mirror", "data.resize=longer")


TRAININGS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "guide at the input": _guided("input"),
    "guide at the bottleneck": _guided("bottleneck"),
    "guide at features": _guided("features"),
    "guide finer than the maps": _guided("bottleneck", _ENLARGED),
    "all losses": _guided("bottleneck", _ALL_LOSSES),
    "float32": _guided("bottleneck", "train.precision=no"),
    "fp16": _guided("bottleneck", "train.precision=fp16"),
    "fp16 with SGD": _guided("bottleneck", "train.precision=fp16", "train.optimizer=sgd"),
    "LoRA": _guided("bottleneck", "model.lora={rank: 2, alpha: 4}"),
    "DoRA": _guided("bottleneck", "model.lora={rank: 2, alpha: 4, dora: true}"),
    "whole backbone": _guided("bottleneck", "model.finetune={}", "train.backbone_lr=1e-4"),
    "checkpointing": _guided("bottleneck", "model.lora={rank: 2, alpha: 4}", "train.checkpointing=true"),
    "accumulation": _guided("bottleneck", "train.accumulate=2", "train.optimizer=sgd"),
    "cache in memory": _guided("bottleneck", "data.augment=none", "train.dense_cache_gb=1"),
    "cache on disk": _guided("bottleneck", "data.augment=none", "train.dense_cache=disk"),
    "no cache": _guided("bottleneck", "data.augment=none", "train.dense_cache_gb=0"),
    "augmentation of nnU-Net": ("data.augment=nnunet",),
    "guide in closed form at the logits": _closed_form("logits"),
    "guide in closed form as channels": _closed_form("channels"),
}


def make_data(folder: Path, *, validation: int = 2) -> Path:
    """Four training images of bright squares and some for validation; one is larger than a window."""
    generator, cases = np.random.default_rng(0), []
    (folder / "images").mkdir(parents=True)
    for number, split in enumerate(["train"] * 4 + ["val"] * validation):
        size = (50, 70) if number == 5 else (40, 48)
        pixels = generator.integers(0, 60, (*size, 3)).astype(np.uint8)
        labels = np.zeros(size, dtype=np.uint8)
        labels[8:24, 10:30] = 1
        pixels[labels > 0] += 150
        image, mask = folder / "images" / f"{number}.png", folder / "masks" / f"{number}.png"
        Image.fromarray(pixels).save(image)
        write_label_map(mask, labels)
        cases.append(Case(f"c{number}", image, mask, split, None, f"c{number}", size, float((labels > 0).mean())))
    save_manifest(Manifest("data", ["background", "square"], cases, {}), folder)
    return folder


def _trainer(folder: Path, settings: Sequence[str]) -> Trainer:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    data = make_data(folder / "data")
    cache = f"train.dense_cache_folder={folder / 'cache'}"
    config, manifest = override(RunConfig(), [*_BASE, cache, *settings]), load_manifest(data)
    set_seed(config.seed)
    return Trainer(
        build_model(config.model, num_classes=2),
        config,
        RunFolder(folder / "run"),
        num_classes=2,
        training=manifest.select("train"),
        validation=manifest.select("val"),
    )


def _check_training(settings: tuple[str, ...]) -> Callable[[Any, Path], Any]:
    def check(watch: Any, folder: Path) -> dict[str, Any]:
        trainer = _trainer(folder, settings)
        trainer._solve_guide(None)
        trainer.train_step.train_mode()
        first, second = trainer.loader.iterate(0, start=0)
        # The first step sets up the optimiser's state, and fills caches.
        with watch.recording() as opening:
            trainer._train_on_batch(trainer._sync_control(first))
        before = {name: weight.detach().inner.clone() for name, weight in trainer.bare_model.named_parameters()}
        again = second if trainer.train_step._config.train.dense_cache_gb == 0 else first
        with watch.recording() as step:
            trainer._train_on_batch(trainer._sync_control(again))
        moved, still = [], []
        for name, weight in trainer.bare_model.named_parameters():
            (still if torch.equal(before[name], weight.detach().inner) else moved).append((name, weight.requires_grad))
        with watch.recording() as validation:
            dice = trainer.validation.mean_dice(trainer.bare_model)
        loss = float(trainer.state.sums["loss"].inner)
        trainer.train_step.train_mode()
        torch.use_deterministic_algorithms(True)
        with watch.recording() as same:
            trainer._train_on_batch(trainer._sync_control(again))
        torch.use_deterministic_algorithms(False)
        return {
            "not deterministic": sorted(same.not_deterministic),
            "device": str(trainer.accelerator.device),
            "precision": trainer.accelerator.mixed_precision,
            "loss": loss,
            "moved but frozen": [name for name, is_trained in moved if not is_trained],
            "still but trained": [name for name, is_trained in still if is_trained],
            "dice": dice,
            "first": opening.as_json(),
            "step": step.as_json(),
            "validation": validation.as_json(),
        }

    return check


CHECKS |= {f"train {name}": _check_training(settings) for name, settings in TRAININGS.items()}


def _control(watch: Any, folder: Path) -> dict[str, Any]:
    """What the device must notice."""
    there, here = torch.ones(3, device="cuda"), torch.ones(3)
    seen: dict[str, Any] = {}
    for name, work in {
        "mixed addition": lambda: there + here,
        "network on another device": lambda: torch.nn.Linear(3, 3)(there),
    }.items():
        try:
            work()
        except RuntimeError as error:
            seen[name] = str(error)
    with watch.recording() as record:
        there.sum().item()
        there[there > 0]
        there.cpu()
        here.to("cuda")
        here.to("cuda", non_blocking=True)
        here.pin_memory().to("cuda")
        here.pin_memory().to("cuda", non_blocking=True)
    return seen | {"record": record.as_json()}


CHECKS["control"] = _control
