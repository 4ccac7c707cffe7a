"""The noise of training batches, and errors of a data loader whose workers have died."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.data import augment
from guidino_cli.data.augment import augment_batch
from guidino_cli.engine.training.data import batches_until_error
from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.errors import ResourceError


def _batches(error: Exception) -> Iterator[int]:
    yield 1
    raise error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nMore"),
        EOFError(),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
)
def test_the_error_of_a_dead_worker_is_the_last_item_whenever_it_died(error: Exception) -> None:
    first, last = batches_until_error(_batches(error))
    assert first == 1
    assert isinstance(last, ResourceError)
    assert "a data loader worker died (" in str(last)
    assert "\n" not in str(last)


def test_other_errors_are_not_mistaken_for_a_dead_worker() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        list(batches_until_error(_batches(RuntimeError("shapes do not fit"))))


@pytest.mark.parametrize("workers", [0, 2])
def test_noise_comes_with_a_batch_and_is_what_a_step_would_draw(
    workers: int, make_trainer: Callable[..., Trainer], make_data: Callable[..., Path], tmp_path: Path
) -> None:
    settings = ("data.augment=guidino", f"train.workers={workers}", "train.batch_size=4")
    trainer = make_trainer(make_data(train=8), tmp_path / "run", *settings)
    with_noise = 0
    for epoch in range(4):
        for batch in trainer.loader.iterate(epoch, start=0):
            params = trainer.train_step._draw(batch, epoch)  # type: ignore[arg-type]
            seeds = [item.seed for item in params if item.noise]
            expected = [torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
            assert len(batch.noise) == len(expected)  # type: ignore[union-attr]
            assert all(map(torch.equal, batch.noise, expected))  # type: ignore[union-attr]
            with_noise += len(expected)
    # 15 % of 32 samples.
    assert with_noise > 1


def test_a_step_adds_the_noise_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of each sample which has some, of two in a batch of three."""
    image, mask = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(3, 8, 8).long()
    params = [augment.AugmentationParams(noise=noise, seed=seed) for seed, noise in enumerate((0.1, 0.0, 0.05))]
    drawn_here, _ = augment_batch(image, mask, params)
    noise = [torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 2)]

    def draw(*_: Any) -> torch.Tensor:
        raise AssertionError("the training process draws noise")

    monkeypatch.setattr(augment, "draw_noise", draw)
    given, _ = augment_batch(image, mask, params, noise=noise)
    assert torch.equal(given, drawn_here)
    assert not torch.equal(given[0], image[0])
    assert torch.equal(given[1], image[1])
