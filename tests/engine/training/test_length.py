"""Epochs of a run on few images."""

import pytest

from guidino_cli.config import RunConfig, override
from guidino_cli.engine.training.length import with_enough_epochs


def _length(*settings: str, images: int, processes: int = 1) -> tuple[int, float]:
    base = ("train.epochs=4", "train.warmup_epochs=0.8", "train.batch_size=4", "train.min_steps=400")
    train = with_enough_epochs(override(RunConfig(), [*base, *settings]), images=images, processes=processes).train
    return train.epochs, train.warmup_epochs


@pytest.mark.parametrize(
    ("images", "epochs"),
    # 98 steps of 4 an epoch, and 8 more are a fifth epoch; 52 steps; 5 steps; one batch at least.
    [(392, 5), (400, 4), (4000, 4), (210, 8), (20, 80), (3, 400)],
)
def test_few_images_are_taken_more_often_until_there_are_enough_steps(images: int, epochs: int) -> None:
    assert _length(images=images) == (epochs, pytest.approx(0.2 * epochs))


def test_steps_are_those_of_the_optimizer() -> None:
    # 52 batches, 26 steps of two batches each; two processes halve the batches.
    assert _length("train.accumulate=2", images=210)[0] == 16
    assert _length(images=210, processes=2)[0] == 16


def test_without_a_least_number_epochs_stay() -> None:
    assert _length("train.min_steps=0", images=20) == (4, 0.8)
