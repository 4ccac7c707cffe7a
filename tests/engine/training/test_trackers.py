"""Trackers log every epoch once, continue after a resume, and never end a run; with a stand-in for TensorBoard."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accelerate import tracking
from accelerate.tracking import GeneralTracker
from accelerate.utils import LoggerType

from guidino_cli.engine.training import trackers
from guidino_cli.engine.training.trackers import require_tracker_packages, tracker_metrics
from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.errors import ConfigError, DependencyError

Maker = Callable[..., Path]
Trainers = Callable[..., Trainer]
TRACKED = ("train.trackers=[tensorboard]", "train.epochs=2")


class StandIn(GeneralTracker):
    """Keeps what it is told, of all runs together."""

    name = "tensorboard"
    requires_logging_directory = True
    told: list[Any]
    fails_to: str | None

    def __init__(self, run_name: str, logging_dir: str) -> None:
        super().__init__()
        self.told.append(("made", run_name, logging_dir))

    @property
    def tracker(self) -> None:
        return None

    def start(self) -> None:
        self._do("start")

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self._do("log", step, values)

    def finish(self) -> None:
        self._do("finish")

    def _do(self, what: str, *more: Any) -> None:
        if self.fails_to == what:
            raise OSError("no connection")
        self.told.append((what, *more))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    kind = type("Fresh", (StandIn,), {"told": [], "fails_to": None})
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", kind)
    monkeypatch.setattr(tracking, "_available_trackers", [LoggerType.TENSORBOARD])
    return kind


def _logged(stand_in: type[StandIn]) -> dict[int, dict[str, Any]]:
    return {step: values for what, step, values in (item for item in stand_in.told if item[0] == "log") if step > 0}


def test_every_epoch_is_logged_with_its_losses_named_as_losses(
    stand_in: type[StandIn], make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(), tmp_path / "run", *TRACKED)
    trainer.fit()
    rows = trainer.folder.history()
    assert _logged(stand_in) == {
        row["epoch"]: tracker_metrics(row, terms={"dice": 1, "cross_entropy": 1}) for row in rows
    }
    assert {"loss/dice", "loss/cross_entropy", "loss", "lr", "val_dice", "images_per_second"} <= _logged(stand_in)[
        1
    ].keys()
    assert "dice" not in _logged(stand_in)[1]


def test_tracker_files_are_in_the_run_folder_and_settings_are_logged_first(
    stand_in: type[StandIn], make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    make_trainer(make_data(), tmp_path / "run", *TRACKED, "train.epochs=1").fit()
    (made, start, settings), finish = stand_in.told[:3], stand_in.told[-1]
    assert (made, start) == (("made", "guidino", str(tmp_path / "run" / "trackers")), ("start",))
    assert "batch_size: 2" in settings[2]["settings"]
    assert finish == ("finish",)


def test_a_resumed_run_continues_its_log(
    stand_in: type[StandIn],
    make_trainer: Trainers,
    make_data: Maker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, killed = make_data(), make_trainer(make_data("other"), tmp_path / "other", "train.epochs=1")
    killed = make_trainer(data, tmp_path / "run", *TRACKED)
    scores = iter([0.5])
    monkeypatch.setattr(killed, "_validate", lambda: next(scores))
    with pytest.raises(StopIteration):
        killed.fit()
    (tmp_path / "run" / "trackers" / "guidino").mkdir()
    assert list(_logged(stand_in)) == [1]
    stand_in.told.clear()
    resumed = make_trainer(data, tmp_path / "run", *TRACKED)
    resumed.resume()
    resumed.fit()
    assert [item[1] for item in stand_in.told if item[0] == "log"] == [2]
    assert (tmp_path / "run" / "trackers" / "guidino").is_dir()


def test_overwriting_a_run_removes_tracker_files_and_no_others(
    stand_in: type[StandIn], make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    place = tmp_path / "run" / "trackers"
    (place / "guidino").mkdir(parents=True)
    (place / "notes.txt").write_text("mine")
    make_trainer(make_data(), tmp_path / "run", *TRACKED, "train.epochs=1").fit()
    assert [path.name for path in place.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("what", ["log", "finish"])
def test_a_failing_tracker_is_warned_about_once_and_training_continues(
    what: str,
    stand_in: type[StandIn],
    make_trainer: Trainers,
    make_data: Maker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trackers.Trackers, "_log_settings", lambda *_: None)
    stand_in.fails_to = what
    trainer = make_trainer(make_data(), tmp_path / "run", *TRACKED)
    trainer.fit()
    assert len(trainer.folder.history()) == 2
    assert capsys.readouterr().err.count("warning: tensorboard") == 1


def test_a_tracker_that_cannot_be_started_is_an_error_before_the_first_step(
    stand_in: type[StandIn], make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    stand_in.fails_to = "start"
    trainer = make_trainer(make_data(), tmp_path / "run", *TRACKED)
    with pytest.raises(ConfigError, match=r"train\.trackers: tensorboard cannot be started \(no connection\)"):
        trainer.fit()


def test_no_tracker_is_used_by_default(make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> None:
    trainer = make_trainer(make_data(), tmp_path / "run", "train.epochs=1")
    trainer.fit()
    assert trainer.accelerator.trackers == []
    assert not (tmp_path / "run" / "trackers").exists()


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "mlflow" else object())
    require_tracker_packages(["tensorboard"])
    with pytest.raises(DependencyError, match=r"mlflow is not installed; pip install 'guidino\[mlflow\]'") as caught:
        require_tracker_packages(["tensorboard", "mlflow"])
    assert caught.value.exit_code == 5
