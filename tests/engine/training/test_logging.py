"""Progress lines and step profiles."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from guidino_cli import progress
from guidino_cli.engine.training.checkpoint import TrainState
from guidino_cli.engine.training.logging import ProgressLogger, format_epoch, format_profile, seconds_left, term_label
from guidino_cli.engine.training.trainer import Trainer

TERMS = ["dice", "cross_entropy"]


def _row(epoch: int, **more: float) -> dict[str, Any]:
    row = {"epoch": epoch, "loss": 0.61, "dice": 0.4, "cross_entropy": 0.21, "train_seconds": 10.0}
    return {**row, "images_per_second": 12.345, **more}


def _logger(*, epochs: int = 3, steps: int = 4) -> ProgressLogger:
    return ProgressLogger(epochs=epochs, steps=steps, cases=2 * steps, terms=TERMS, enabled=True)


def test_a_dice_loss_is_not_called_dice() -> None:
    assert [term_label(name) for name in ("dice", "cross_entropy", "guide_mse")] == [
        "dice loss",
        "cross-entropy",
        "guide mse loss",
    ]


def test_an_epoch_is_one_line_with_loss_score_pace_and_time_left() -> None:
    line = format_epoch(_row(2, val_dice=0.7), epochs=5, terms=TERMS, best=(0.75, 1), left=240)
    assert line == (
        "epoch 2/5: loss 0.6100 (dice loss 0.4000, cross-entropy 0.2100), "
        "val Dice 0.7000 (best 0.7500 in epoch 1), 12.3 images/s, about 4 min left"
    )


def test_the_best_and_last_epoch_has_no_remaining_time() -> None:
    line = format_epoch(_row(5, val_dice=0.8), epochs=5, terms=TERMS, best=(0.8, 5), left=0)
    assert line.endswith("val Dice 0.8000 (best), 12.3 images/s")


def test_a_score_of_zero_is_not_called_best() -> None:
    line = format_epoch(_row(2, val_dice=0.0), epochs=2, terms=TERMS, best=(0.0, 1), left=0)
    assert line.endswith("val Dice 0.0000 (no overlap with a true mask yet), 12.3 images/s")


def test_a_single_term_is_not_repeated_after_the_loss() -> None:
    assert (
        format_epoch(_row(1), epochs=1, terms=["dice"], best=(-1, 0), left=0) == "epoch 1/1: loss 0.6100, 12.3 images/s"
    )


def test_the_time_left_is_that_of_a_median_epoch_plus_mean_validation_for_each_remaining_epoch() -> None:
    """The first epoch was slow; validation of 4 s in every second epoch is 2 s in each: 3 x (10 + 2)."""
    history = [_row(n, train_seconds=s) for n, s in ((1, 99), (2, 10), (3, 10), (4, 10))]
    for row in history[1::2]:
        row["val_seconds"] = 4.0
    assert seconds_left(history, epochs=7) == pytest.approx(36)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal of 80 columns in the place of stderr."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80, legacy_windows=False)
    monkeypatch.setattr(progress, "_console", console)
    return shown


def test_the_live_line_fits_80_columns(terminal: io.StringIO) -> None:
    logger, state = _logger(epochs=400), TrainState(epoch=122, step=1)
    with logger.live_line([_row(n, val_dice=n / 1000, val_seconds=2.0) for n in range(1, 123)]):
        logger.step(state, seconds=2.0, loss=0.6123)
    # A step of 2 s, four an epoch, 2 s of validation: 278 epochs of 10 s, less 2 s.
    assert "epoch 123/400 25%  loss 0.612  1 img/s  val Dice 0.122 best 0.122  46 min left" in terminal.getvalue()


def test_a_long_epoch_is_logged_at_least_every_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = _logger()
    with logger.live_line([]):
        logger.step(TrainState(step=1), seconds=50.0, loss=0.5)
        monkeypatch.setattr(logger, "_logged_at", logger._logged_at - 61)
        logger.step(TrainState(step=2), seconds=100.0, loss=0.5)
        logger.step(TrainState(step=3), seconds=150.0, loss=0.5)
    # 50 s a step, three epochs of four: 600 s, less 100.
    assert capsys.readouterr().err == "epoch 1/3, step 2 of 4: loss 0.5000, 0.04 images/s, about 8 min left\n"


def test_a_disabled_logger_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    logger = ProgressLogger(epochs=1, steps=1, cases=2, terms=TERMS, enabled=False)
    with logger.live_line([]):
        logger.epoch([_row(1)], best=(0.5, 1))
    assert capsys.readouterr().err == ""


Maker = Callable[..., Path]
Trainers = Callable[..., Trainer]


@pytest.mark.parametrize(("last", "said"), [(3, "steps 3 to 3 of"), (9, "steps 3 to 4 of")])
def test_steps_from_the_third_to_the_last_or_the_end_of_the_epoch_are_profiled(
    last: int, said: str, make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    settings = (f"train.profile={last}", "train.epochs=2")
    make_trainer(make_data(train=8), tmp_path / "run", *settings).fit()
    text = (tmp_path / "run" / "trace.txt").read_text(encoding="ascii")
    assert text.startswith(f"{said} the first epoch on cpu: ")
    assert max(map(len, text.splitlines())) <= 80
    names = [event.get("name") for event in json.loads((tmp_path / "run" / "trace.json").read_text())["traceEvents"]]
    assert names.count("guidino.forward") == min(last, 4) - 2


def test_no_profile_is_written_by_default(make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> None:
    make_trainer(make_data(), tmp_path / "run", "train.epochs=1").fit()
    assert not list((tmp_path / "run").glob("trace.*"))


def test_the_profile_table_is_per_step() -> None:
    def event(key: str, count: int, cpu_us: float) -> Any:
        return SimpleNamespace(
            key=key, count=count, cpu_time_total=cpu_us, self_cpu_time_total=cpu_us / 2,
            device_time_total=0.0, self_device_time_total=0.0,
        )  # fmt: skip

    events = [event("guidino.loss", 4, 8000), event("aten::mul", 12, 4000), event("aten::_local_scalar_dense", 2, 4)]
    lines = format_profile(events, steps=4, seconds=2.0).splitlines()
    assert lines[0] == "500.0 ms a step"
    assert lines[3].split() == ["loss", "1.0", "2.00", "0.00"]
    assert lines[6].split() == ["aten::mul", "3.0", "0.50", "0.00"]
    assert lines[-1] == "read back from the device, times per step: aten::_local_scalar_dense 0.5"
