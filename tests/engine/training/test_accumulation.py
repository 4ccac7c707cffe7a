"""Gradient accumulation: accumulated batches equal one large batch, also in a short last group."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from guidino_cli.engine.training.trainer import Trainer

Maker = Callable[..., Path]
Trainers = Callable[..., Trainer]

# A network without batch statistics, and a loss that is a mean over pixels. Not AdamW: it makes steps of rounding
# errors where a gradient is 0, as before instance normalisation.
EXACT = (
    "model.segmenter={name: nnunet, options: {widths: [4, 8, 8], blocks: [1, 1, 1]}}",
    "train.optimizer=sgd",
    "train.loss={cross_entropy: 1}",
    "predict.mirror=false",
)


def test_two_batches_of_two_are_a_batch_of_four(make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> None:
    data, trainers = make_data(train=8), {}
    for size, accumulate in ((2, 2), (4, 1)):
        settings = (
            "train.epochs=2",
            "data.augment=light",
            f"train.batch_size={size}",
            f"train.accumulate={accumulate}",
        )
        trainer = trainers[size] = make_trainer(data, tmp_path / str(size), *EXACT, *settings)
        trainer.fit()
    summed, whole = ([row["loss"] for row in trainers[size].folder.history()] for size in (2, 4))
    assert summed == pytest.approx(whole, rel=1e-4)
    weights = trainers[2].model.state_dict()
    for name, value in trainers[4].model.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)


def test_every_group_is_divided_by_its_own_size(make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> None:
    """Five batches in groups of two: their losses count 1/2, 1/2, 1/2, 1/2 and, alone in its group, 1.

    Momentum is 0.99 and Nesterov's; without it and with gradients of 1, a step of the rate r moves a weight by -r, so
    after three steps of a constant rate it has moved by -3r. Divided by the whole group, the last would move it by r/2.
    """
    settings = ("train.accumulate=2", "train.epochs=1", "train.schedule=constant", "train.weight_decay=0")
    trainer = make_trainer(make_data(train=10), tmp_path / "run", *EXACT, *settings, "train.clip_norm=1000")
    weight = next(trainer.bare_model.segmenter.parameters())
    for group in trainer.train_step.optimizer.optimizer.param_groups:
        group["momentum"], group["nesterov"] = 0, False
    trainer.train_step._loss = lambda prediction, _: {"loss": weight.sum() + 0 * prediction.logits[0].sum()}
    before = weight.detach().clone()
    trainer.fit()
    torch.testing.assert_close(weight.detach() - before, torch.full_like(weight, -3 * 1e-2), rtol=1e-4, atol=1e-7)


def test_the_logged_loss_is_that_of_the_batch_whatever_its_group(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    settings = ("train.accumulate=4", "train.epochs=1", "train.loss={cross_entropy: 1}")
    trainer = make_trainer(make_data(train=2), tmp_path / "run", *settings)
    trainer.train_step._loss = lambda prediction, _: {"loss": 3.0 + 0 * prediction.logits[0].sum()}
    trainer.fit()
    assert trainer.folder.history()[0]["loss"] == pytest.approx(3.0)
