"""Resuming in the middle of an epoch after a signal, a kill, a lost file or a dead worker, bit for bit."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.errors import DataError, ResourceError, StoppedError

Maker = Callable[..., Path]
Trainers = Callable[..., Trainer]
Same = Callable[[Trainer, Trainer], bool]

DROPOUT = (
    "model.backbone={name: random, options: {hidden_size: 32, depth: 1, heads: 2}}",
    "model.guide={at: bottleneck, options: {prototypes: 4}}",
    "model.lora={rank: 2, dropout: 0.5}",
)
WHOLE = (
    "model.backbone={name: random, options: {hidden_size: 32, depth: 2, heads: 2, layer_scale: 0.1}}",
    "model.segmenter={name: meddinov3}",
    "model.finetune={drop_path: 0.5}",
    "train.backbone_lr=1e-3",
)
ACCUMULATED = ("train.accumulate=2", "train.optimizer=sgd", "data.resize=none")


class Killed(Exception):
    """The process was killed."""


@pytest.fixture
def make_trainer(make_trainer: Trainers) -> Trainers:
    """Two epochs unless a test says otherwise."""
    return lambda data, out, *settings: make_trainer(data, out, "train.epochs=2", *settings)


def _at_step(trainer: Trainer, number: int, act: Callable[[], object]) -> list[list[int]]:
    """Act after a trainer's step of that number, counted from 1; the result fills with the cases of every step."""
    original: Callable[[Any], Any] = trainer._step
    shown: list[list[int]] = []

    def step(batch: Any) -> Any:
        terms = original(batch)
        shown.append(batch.case_index.tolist())
        if len(shown) == number:
            act()
        return terms

    trainer._step = step  # type: ignore[method-assign]
    return shown


def _send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def _die() -> None:
    raise Killed


def _resumed(trainer: Trainer) -> Trainer:
    trainer.resume()
    trainer.fit()
    return trainer


@pytest.mark.parametrize(
    ("settings", "call", "step"),
    [(DROPOUT, 5, 2), (WHOLE, 5, 2), (ACCUMULATED, 4, 2)],
    ids=["dropout", "whole backbone", "accumulated"],
)
def test_a_signal_finishes_the_step_and_the_run_resumes_after_it(
    make_trainer: Trainers, same: Same, settings: Sequence[str], call: int, step: int, make_data: Maker, tmp_path: Path
) -> None:
    """Three batches an epoch; where two are one step of the optimiser, the second is waited for."""
    data = make_data(train=6)
    whole = make_trainer(data, tmp_path / "whole", *settings)
    whole.fit()
    stopped = make_trainer(data, tmp_path / "run", *settings)
    shown = _at_step(stopped, call, _send(signal.SIGINT))
    with pytest.raises(StoppedError, match=r"step 2 of 3 in epoch 2 is saved; resume with: .*--resume") as caught:
        stopped.fit()
    assert caught.value.exit_code == 130
    assert len(shown) == 3 + step
    state = stopped.folder.load_state()
    assert (state["epoch"], state["step"]) == (1, step)
    assert same(_resumed(make_trainer(data, tmp_path / "run", *settings)), whole)


def test_sigterm_exits_with_143_and_restores_pythons_signal_handlers(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    trainer = make_trainer(make_data(), tmp_path / "run")
    _at_step(trainer, 1, _send(signal.SIGTERM))
    with pytest.raises(StoppedError, match="SIGTERM") as caught:
        trainer.fit()
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_ctrl_c_does_not_wait_for_the_step(make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> None:
    trainer = make_trainer(make_data(), tmp_path / "run")

    def twice() -> None:
        _send(signal.SIGINT)()
        _send(signal.SIGINT)()

    _at_step(trainer, 1, twice)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert trainer.folder.load_state()["step"] == 0


def test_a_long_epoch_is_saved_every_few_minutes(
    make_trainer: Trainers, same: Same, make_data: Maker, tmp_path: Path
) -> None:
    data = make_data(train=6)
    whole = make_trainer(data, tmp_path / "whole")
    whole.fit()
    killed = make_trainer(data, tmp_path / "run", "train.save_minutes=1e-9")
    _at_step(killed, 3, _die)
    with pytest.raises(Killed):
        killed.fit()
    assert killed.folder.load_state()["step"] == 2
    assert same(_resumed(make_trainer(data, tmp_path / "run", "train.save_minutes=1e-9")), whole)


def test_a_signal_during_validation_repeats_no_step(
    make_trainer: Trainers, same: Same, make_data: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data()
    whole = make_trainer(data, tmp_path / "whole", "train.epochs=1")
    whole.fit()
    stopped = make_trainer(data, tmp_path / "run", "train.epochs=1")
    original, segmented = stopped.validation._segment, []

    def segment(*arguments: Any) -> np.ndarray:
        segmented.append(1)
        _send(signal.SIGINT)()
        return original(*arguments)

    monkeypatch.setattr(stopped.validation, "_segment", segment)
    with pytest.raises(StoppedError, match="step 2 of 2 in epoch 1"):
        stopped.fit()
    assert len(segmented) == 1
    resumed = make_trainer(data, tmp_path / "run", "train.epochs=1")
    shown = _at_step(resumed, 0, _die)
    resumed.resume()
    resumed.fit()
    assert shown == []
    assert same(resumed, whole)


def test_a_validation_mask_of_another_size_is_named_and_loses_no_step(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(), tmp_path / "run", "train.epochs=1")
    mask = tmp_path / "data" / "masks" / "case5.png"
    Image.fromarray(np.zeros((7, 9), np.uint8)).save(mask)
    with pytest.raises(DataError, match=r"case5\.png: is 9x7 px .*step 2 of 2 in epoch 1 is saved; resume with"):
        trainer.fit()
    assert trainer.folder.load_state()["step"] == 2


def test_batches_before_the_resumed_step_are_not_loaded(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    data = make_data(train=6)
    stopped = make_trainer(data, tmp_path / "run", "train.epochs=1")
    shown = _at_step(stopped, 2, _send(signal.SIGINT))
    with pytest.raises(StoppedError):
        stopped.fit()
    for batch in shown:
        for case in batch:
            stopped.training[case].image.unlink()
    resumed = _resumed(make_trainer(data, tmp_path / "run", "train.epochs=1"))
    assert [row["epoch"] for row in resumed.folder.history()] == [1]


# --- What goes wrong after an hour


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_loses_nothing_and_is_named(
    make_trainer: Trainers, same: Same, workers: int, make_data: Maker, tmp_path: Path
) -> None:
    data, settings = make_data(train=8), (f"train.workers={workers}", "train.epochs=1", "data.cache_gb=0")
    whole = make_trainer(data, tmp_path / "whole", *settings)
    shown = _at_step(whole, 0, _die)
    whole.fit()
    image = whole.training[shown[-1][0]].image
    content = image.read_bytes()
    image.write_bytes(b"no image")
    broken = make_trainer(data, tmp_path / "run", *settings)
    with pytest.raises(DataError, match=r"case\d\.png: cannot be read as an image .*is saved; resume with") as caught:
        broken.fit()
    assert str(image) in str(caught.value)
    assert "\n" not in str(caught.value)
    # One batch is always fetched ahead.
    assert broken.folder.load_state()["step"] == 2
    image.write_bytes(content)
    assert same(_resumed(make_trainer(data, tmp_path / "run", *settings)), whole)


def test_a_worker_that_dies_loses_no_step(make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> None:
    trainer = make_trainer(make_data(train=12), tmp_path / "run", "train.workers=1", "train.epochs=1")
    shown = _at_step(trainer, 1, lambda: [child.kill() for child in multiprocessing.active_children()])
    with pytest.raises(ResourceError, match=r"data loader worker died .*train\.workers.* is saved; resume with"):
        trainer.fit()
    assert trainer.folder.load_state()["step"] == len(shown) >= 1


def test_workers_keep_decoded_images_over_epochs(make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> None:
    """With one worker, which sees every case; without its cache the second epoch could not read them."""
    trainer = make_trainer(make_data(), tmp_path / "run", "train.workers=1")

    def remove() -> None:
        for case in trainer.training:
            case.image.unlink()

    shown = _at_step(trainer, 2, remove)
    trainer.fit()
    assert len(shown) == 4


def test_an_infinite_loss_between_two_checks_is_traced_to_its_step(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(train=12), tmp_path / "run", "train.epochs=1")
    original, shown = trainer._step, []

    def step(batch: Any) -> Any:
        terms = original(batch)
        shown.append(batch.case_index.tolist())
        return {key: value * float("inf") for key, value in terms.items()} if len(shown) == 4 else terms

    trainer._step = step  # type: ignore[method-assign]
    with pytest.raises(Exception, match="in epoch 1, first in step 4") as caught:
        trainer.fit()
    cases = ", ".join(f"case{index}" for index in shown[3])
    assert f"(cases {cases})" in str(caught.value)
    assert trainer.folder.load_state()["step"] == 0
