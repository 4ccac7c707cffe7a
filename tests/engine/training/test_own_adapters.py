"""Adapters of a backbone other than LoRA: saved with the segmenter, loaded and resumed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from guidino_cli.config import RunConfig, override
from guidino_cli.engine.runs.folder import run_facts
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.models import build_model

Maker = Callable[..., Path]
Trainers = Callable[..., Trainer]

SAM2 = (
    "model.segmenter={name: sam2-unet, options: {width: 4}}",
    "model.backbone={name: sam2, options: {size: tiny, random: true, widths: [8, 16, 32, 64], blocks: [1, 1, 1, 1]}}",
    "train.loss={structure: 1}",
)


class Killed(Exception):
    """The process was killed."""


@pytest.fixture
def trained(make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> Trainer:
    """One epoch, as `guidino train` does it."""
    data = make_data()
    trainer = make_trainer(data, tmp_path / "run", *SAM2, "train.epochs=1")
    trainer.folder.create(trainer.config, run_facts(trainer.bare_model, classes=["background", "polyp"], data=data))
    trainer.fit()
    return trainer


def test_a_run_holds_the_adapters_and_not_the_encoder(trained: Trainer) -> None:
    names = set(load_file(trained.folder.weights))
    assert {name.split(".")[1] for name in names if name.startswith("backbone.")} == {"adapters"}
    assert any(name.startswith("segmenter.") for name in names)
    assert not trained.folder.best.adapter.exists()


def test_the_adapters_are_trained(trained: Trainer) -> None:
    fresh = {name: value for name, value in _fresh(trained).items() if name.startswith("backbone.adapters.")}
    saved = load_file(trained.folder.weights)
    assert fresh
    assert all(not torch.equal(value, saved[name]) for name, value in fresh.items())


def _fresh(trained: Trainer) -> dict[str, torch.Tensor]:
    torch.manual_seed(trained.config.seed)
    return build_model(trained.config.model, num_classes=2).state_dict()


def test_a_loaded_run_predicts_as_it_was_trained(trained: Trainer) -> None:
    model, _, _ = load_run(trained.folder.path)
    image = torch.rand(1, 3, 33, 41)
    with torch.no_grad():
        # The last epoch is the best: there is one.
        torch.testing.assert_close(model(image).logits[0], trained.bare_model.eval()(image).logits[0])
    assert model.backbone is not None
    assert model.backbone.is_frozen


def test_a_run_without_its_adapters_is_refused(trained: Trainer) -> None:
    tensors = load_file(trained.folder.weights)
    save_file(
        {name: value for name, value in tensors.items() if not name.startswith("backbone.adapters.0.")},
        trained.folder.weights,
    )
    with pytest.raises(WeightsError, match=r"4 missing \(backbone\.adapters\.0\."):
        load_run(trained.folder.path)


def test_resumed_training_equals_uninterrupted_training(
    make_trainer: Trainers, make_data: Maker, same: Callable[[Trainer, Trainer], bool], tmp_path: Path
) -> None:
    data = make_data()
    whole = make_trainer(data, tmp_path / "whole", *SAM2, "train.epochs=2")
    whole.fit()
    stopped = make_trainer(data, tmp_path / "parts", *SAM2, "train.epochs=2")
    with pytest.raises(Killed):
        stopped.fit(after_epoch=_die)
    resumed = make_trainer(data, tmp_path / "parts", *SAM2, "train.epochs=2")
    resumed.resume()
    resumed.fit()
    assert same(resumed, whole)


def _die(_: object) -> None:
    raise Killed


def test_lora_for_sam2_is_refused_with_a_message() -> None:
    with pytest.raises(ConfigError, match=r"model\.lora: Sam2HieraDetModel has no blocks"):
        build_model(override(RunConfig(), [*SAM2, "model.lora={}"]).model, num_classes=2)
