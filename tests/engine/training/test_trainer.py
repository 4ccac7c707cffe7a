"""The training loop: learning, reproducibility, resuming, and stopping early."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.data.manifest import load_manifest
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.training.checkpoint import TrainState
from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.errors import ConfigError, DataError

Maker = Callable[..., Path]
Trainers = Callable[..., Trainer]
Same = Callable[[Trainer, Trainer], bool]
Outcome = Callable[[Trainer], tuple[list[dict[str, Any]], dict[str, torch.Tensor]]]

ADAPTED = ("model.lora={rank: 2, dropout: 0.5}", "train.lora_lr=1e-2", "train.epochs=2")


class Killed(Exception):
    """The process was killed."""


# --- It learns


def test_it_overfits_one_image(make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> None:
    data = make_data(train=1, val=0, size_hw=(32, 32))
    case = load_manifest(data).select("train")[0]
    settings = ("train.epochs=12", "train.validate_every=12", "data.augment=none")
    trainer = make_trainer(data, tmp_path / "run", *settings, training=[case] * 16, validation=[case])
    trainer.fit()
    assert trainer.folder.history()[-1]["val_dice"] > 0.95


@pytest.mark.parametrize(("every_seconds", "read"), [(0.0, [1, 2, 3, 4]), (1e9, [1])])
def test_the_shown_loss_is_read_again_after_a_while(
    make_trainer: Trainers,
    make_data: Maker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every_seconds: float,
    read: list[int],
) -> None:
    monkeypatch.setattr("guidino_cli.engine.training.trainer._READ_LOSS_EVERY_SECONDS", every_seconds)
    trainer, shown = make_trainer(make_data(train=8), tmp_path / "run", "train.epochs=1"), list[int]()

    def step(state: TrainState, *, seconds: float, loss: float | None) -> None:
        if loss is not None:
            shown.append(state.step)

    monkeypatch.setattr(trainer._progress, "step", step)
    trainer.fit()
    assert shown == read


def test_the_learning_rate_follows_the_schedule_over_all_epochs(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(), tmp_path / "run")
    trainer.fit()
    # Two steps an epoch, six in all.
    expected = [1e-2 * (1 - t / 6) ** 0.9 for t in (0, 2, 4)]
    assert [row["lr"] for row in trainer.folder.history()] == pytest.approx(expected)
    assert trainer.train_step.schedule.get_last_lr() == [0, 0]


def test_a_short_last_group_of_accumulated_batches_is_used(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    """Three batches, accumulated by two: a step after the second, and one after the third."""
    trainer = make_trainer(make_data(train=6), tmp_path / "run", "train.accumulate=2", "train.epochs=1")
    trainer.fit()
    steps = {int(state["step"]) for state in trainer.train_step.optimizer.optimizer.state.values()}
    assert steps == {2}
    assert trainer.train_step.schedule.last_epoch == 2
    assert trainer.train_step.schedule.get_last_lr() == [0, 0]


def test_accumulated_batches_move_the_weights_as_one_large_batch_would(
    make_trainer: Trainers, outcome: Outcome, make_data: Maker, tmp_path: Path
) -> None:
    """Of a loss that is a mean over pixels, and without the statistics of batch normalisation."""
    settings = (
        "train.epochs=1", "train.optimizer=sgd", "train.loss={cross_entropy: 1}", "data.augment=none",
        "train.weight_decay=0",
    )  # fmt: skip
    data, after = make_data(train=4), []
    for more in (("train.batch_size=4",), ("train.batch_size=2", "train.accumulate=2")):
        trainer = make_trainer(data, tmp_path / more[0], *settings, *more)
        trainer.model.train = lambda mode=True, net=trainer.model: torch.nn.Module.train(net, False)
        trainer.fit()
        after.append(outcome(trainer)[1])
    for key in after[0]:
        torch.testing.assert_close(after[0][key], after[1][key], rtol=1e-4, atol=1e-6)


def test_validation_selects_the_best_epoch(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, kept = make_trainer(make_data(), tmp_path / "run", "train.epochs=4"), []
    scores = iter([0.2, 0.6, 0.6, 0.4])
    monkeypatch.setattr(trainer, "_validate", lambda: next(scores))
    monkeypatch.setattr(RunFolder, "save_weights", lambda *_, **__: kept.append(trainer.state.best_epoch))
    trainer.fit()
    assert kept == [1, 2]
    assert (trainer.state.best_dice, trainer.state.best_epoch) == (0.6, 2)


def test_the_last_epoch_is_validated_whatever_the_interval(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(), tmp_path / "run", "train.validate_every=2")
    trainer.fit()
    assert ["val_dice" in row for row in trainer.folder.history()] == [False, True, True]
    assert trainer.folder.weights.is_file()


def test_the_validation_dice_is_the_mean_over_cases_and_classes_in_native_pixels(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of class 1, all of class 2, in each of two images: (2/3 + 1) / 2."""
    from guidino_cli.data.cases import read_label_map
    from guidino_cli.engine.prediction.predictor import Predictor

    data = make_data(num_classes=3, val=2, size_hw=(50, 60))
    manifest = load_manifest(data)
    masks = {case.image: read_label_map(case.mask) for case in manifest.select("val") if case.mask}

    def predicted(_predictor, images, **_):
        labels = masks[Path(images[0].geometry.source)].copy()
        ones = (labels == 1).nonzero()
        labels[ones[0][: len(ones[0]) // 2], ones[1][: len(ones[0]) // 2]] = 0
        return [type("Result", (), {"labels": labels})]

    monkeypatch.setattr(Predictor, "segment", predicted)
    dice = make_trainer(data, tmp_path / "run")._validate()
    halves = [(labels == 1).sum() // 2 for labels in masks.values()]
    expected = [
        (2 * ((labels == 1).sum() - half) / (2 * (labels == 1).sum() - half) + 1) / 2
        for labels, half in zip(masks.values(), halves, strict=True)
    ]
    assert dice == pytest.approx(sum(expected) / 2)


def test_an_empty_prediction_for_an_empty_mask_has_a_dice_of_one(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from guidino_cli.data.image_writing import write_label_map
    from guidino_cli.engine.prediction.predictor import Predictor

    data = make_data(val=1)
    case = load_manifest(data).select("val")[0]
    assert case.mask is not None
    write_label_map(case.mask, np.zeros((40, 48), dtype=np.uint8))
    empty = type("Result", (), {"labels": np.zeros((40, 48), dtype=np.uint8)})
    monkeypatch.setattr(Predictor, "segment", lambda *_, **__: [empty])
    assert make_trainer(data, tmp_path / "run")._validate() == 1.0


def test_a_frozen_backbone_is_in_evaluation_mode_and_unchanged_after_training(
    make_trainer: Trainers, outcome: Outcome, guided: tuple[str, ...], make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(), tmp_path / "run", *guided)
    before = outcome(trainer)[1]
    trainer.fit()
    trainer.model.train()
    assert not any(module.training for module in trainer.model.backbone.modules())
    after = outcome(trainer)[1]
    assert all(torch.equal(before[key], after[key]) for key in before if key.startswith("backbone."))
    assert not torch.equal(before["guide.book"], after["guide.book"])


def test_with_an_adapter_the_backbone_stays_in_evaluation_mode_and_unchanged(
    make_trainer: Trainers, outcome: Outcome, guided: tuple[str, ...], make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(), tmp_path / "run", *guided, *ADAPTED)
    before = outcome(trainer)[1]
    trainer.fit()
    trainer.model.train()
    assert not trainer.model.backbone.vit.training
    after = outcome(trainer)[1]
    base = [key for key in before if key.startswith("backbone.") and "lora_" not in key]
    assert base
    assert all(torch.equal(before[key], after[key]) for key in base)
    assert all(not torch.equal(before[key], after[key]) for key in before if "lora_B" in key)
    assert trainer.train_step.feature_cache is None


def test_frozen_heads_keep_their_statistics_too(
    make_trainer: Trainers, outcome: Outcome, guided: tuple[str, ...], make_data: Maker, tmp_path: Path
) -> None:
    """Batch normalisation's running means would move in train mode without any gradient."""
    trainer = make_trainer(
        make_data(), tmp_path / "run", *guided, *ADAPTED, "train.freeze_heads=true", "train.checkpointing=true"
    )
    before = outcome(trainer)[1]
    trainer.fit()
    after = outcome(trainer)[1]
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    assert all("lora_" in key for key in changed)


def test_the_state_of_an_adapted_run_holds_heads_and_adapter_but_not_the_backbone(
    make_trainer: Trainers, guided: tuple[str, ...], make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(), tmp_path / "run", *guided, *ADAPTED, "train.epochs=1")
    trainer.fit()
    names = trainer.folder.load_state()["model"].keys()
    assert {name.split(".")[0] for name in names} == {"segmenter", "guide", "backbone"}
    assert all("lora_" in name for name in names if name.startswith("backbone."))


# --- The same seed, the same run


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    make_trainer: Trainers, outcome: Outcome, same: Same, make_data: Maker, tmp_path: Path
) -> None:
    data, runs = make_data(), []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        trainer = make_trainer(data, tmp_path / name, f"seed={seed}", "train.epochs=2")
        trainer.fit()
        runs.append(trainer)
    assert same(runs[0], runs[1])
    assert outcome(runs[0])[0] != outcome(runs[2])[0]


def test_workers_do_not_change_the_run(
    make_trainer: Trainers, outcome: Outcome, make_data: Maker, tmp_path: Path
) -> None:
    """Native pixels are larger than the window here, so crops are drawn in the workers."""
    data, histories = make_data(), []
    for workers in (0, 2):
        settings = ("data.resize=none", f"train.workers={workers}", "train.epochs=2")
        trainer = make_trainer(data, tmp_path / str(workers), *settings)
        trainer.fit()
        histories.append(outcome(trainer)[0])
    assert histories[0] == histories[1]


def test_every_epoch_has_the_cases_in_another_order(make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> None:
    trainer, orders = make_trainer(make_data(train=8), tmp_path / "run"), []
    shown = _orders(trainer)
    trainer.fit()
    orders = [tuple(shown[i : i + 8]) for i in (0, 8, 16)]
    assert len(set(orders)) == 3
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(8))}


# --- Going on after an interruption


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("train.optimizer=sgd", "train.accumulate=2", "train.schedule=cosine", "train.warmup_epochs=1"),
        ("data.resize=none", "train.validate_every=2"),
    ],
    ids=["guided", "sgd-accumulated", "crops"],
)
def test_a_run_killed_in_its_second_epoch_resumes_bit_for_bit(
    make_trainer: Trainers,
    same: Same,
    guided: tuple[str, ...],
    settings: tuple[str, ...],
    make_data: Maker,
    tmp_path: Path,
) -> None:
    data, settings = make_data(train=6), (*guided, *settings)
    whole = make_trainer(data, tmp_path / "whole", *settings)
    whole.fit()

    killed = make_trainer(data, tmp_path / "killed", *settings)
    _raise_at_call(killed, "_step", call=5)
    with pytest.raises(Killed):
        killed.fit()
    assert [row["epoch"] for row in killed.folder.history()] == [1]

    resumed = make_trainer(data, tmp_path / "killed", *settings)
    resumed.resume()
    resumed.fit()
    assert same(resumed, whole)
    assert (resumed.folder.weights).read_bytes() == whole.folder.weights.read_bytes()


@pytest.mark.parametrize("method", ["save_weights", "save_history", "save_state"])
def test_a_run_killed_while_saving_loses_nothing(
    make_trainer: Trainers,
    outcome: Outcome,
    method: str,
    make_data: Maker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = make_data()
    whole = make_trainer(data, tmp_path / "whole")
    whole.fit()
    with monkeypatch.context() as patch:
        killed, original, calls = make_trainer(data, tmp_path / "killed"), getattr(RunFolder, method), []

        def interrupted(*arguments: object, **named: object) -> None:
            calls.append(1)
            if len(calls) == 2:
                raise Killed
            original(*arguments, **named)

        # The second time that it saves, whichever epoch that is.
        patch.setattr(RunFolder, method, interrupted)
        patch.setattr(killed, "_validate", iter([0.1, 0.2, 0.3]).__next__)
        with pytest.raises(Killed):
            killed.fit()
    resumed = make_trainer(data, tmp_path / "killed")
    resumed.resume()
    resumed.fit()
    assert [row["epoch"] for row in resumed.folder.history()] == [1, 2, 3]
    assert all(torch.equal(value, outcome(whole)[1][key]) for key, value in outcome(resumed)[1].items())


def test_a_finished_run_has_nothing_left_to_do(make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> None:
    data = make_data()
    make_trainer(data, tmp_path / "run", "train.epochs=1").fit()
    again = make_trainer(data, tmp_path / "run", "train.epochs=1")
    again.resume()
    again.fit()
    assert len(again.folder.history()) == 1


def test_a_state_of_another_model_is_refused(
    make_trainer: Trainers, guided: tuple[str, ...], make_data: Maker, tmp_path: Path
) -> None:
    data = make_data()
    make_trainer(data, tmp_path / "run", "train.epochs=1").fit()
    other = make_trainer(data, tmp_path / "run", *guided)
    with pytest.raises(DataError, match=r"state\.pt: does not fit the model"):
        other.resume()


# --- Stopping early


def test_a_nan_loss_stops_the_run_and_names_epoch_and_cases(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(), tmp_path / "run")
    with torch.no_grad():
        trainer.model.segmenter.head.bias.fill_(float("nan"))
    message = r"loss is nan in epoch 1, first in step 1 \(cases case\d, case\d\).* keeps the beginning"
    with pytest.raises(ConfigError, match=message):
        trainer.fit()
    assert trainer.folder.load_state()["step"] == 0


def test_a_nan_loss_in_the_last_step_of_an_epoch_is_not_saved(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(), tmp_path / "run")
    original, calls = trainer._step, []

    def broken(batch: object) -> dict[str, torch.Tensor]:
        calls.append(1)
        terms = original(batch)  # type: ignore[arg-type]
        return {key: value * float("nan") for key, value in terms.items()} if len(calls) == 4 else terms

    trainer._step = broken  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="epoch 2"):
        trainer.fit()
    assert [row["epoch"] for row in trainer.folder.history()] == [1]


def test_skipped_cases_are_reported(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(make_data(train=7), tmp_path / "run", "train.batch_size=4", "train.epochs=1")
    trainer.fit()
    assert "whole batches only: 4 of 7 cases" in capsys.readouterr().err


def test_fewer_cases_than_a_batch_are_one_batch(make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> None:
    trainer = make_trainer(make_data(train=3), tmp_path / "run", "train.batch_size=8", "train.epochs=1")
    shown = _orders(trainer)
    trainer.fit()
    assert sorted(shown) == [0, 1, 2]


def test_half_precision_without_a_cuda_device_is_refused(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="fp16, which needs a CUDA device"):
        make_trainer(make_data(), tmp_path / "run", "train.precision=fp16")


def test_bfloat16_trains_on_a_cpu(
    make_trainer: Trainers, guided: tuple[str, ...], make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(), tmp_path / "run", *guided, "train.precision=bf16", "train.epochs=1")
    trainer.fit()
    assert all(value.dtype != torch.bfloat16 for value in trainer.model.state_dict().values())


@pytest.mark.parametrize("device", ["cuda:99", "tpu"])
def test_a_missing_device_is_refused(device: str, make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--device {device}"):
        make_trainer(make_data(), tmp_path / "run", device=device)


def _orders(trainer: Trainer) -> list[int]:
    """Fills with the index of every case that a step is given."""
    original, shown = trainer._step, []

    def step(batch: Any) -> dict[str, torch.Tensor]:
        shown.extend(batch.case_index.tolist())
        return original(batch)

    trainer._step = step  # type: ignore[method-assign]
    return shown


def _raise_at_call(thing: object, method: str, *, call: int) -> None:
    original, calls = getattr(thing, method), []

    def limited(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return original(*arguments)

    setattr(thing, method, limited)
