"""The pictures that training leaves in its run's folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.commands.runs import figures as run_pictures
from guidino_cli.commands.runs.figures import curve_callback, draw_validation_grid, evenly_spaced
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.types import Case

ROW: dict[str, Any] = {"epoch": 1, "loss": 0.5, "dice": 0.5, "val_dice": 0.25}
PRESET = """
model:
  segmenter: {name: unet, options: {width: 4}}
data: {image_size: 32}
train: {epochs: 1, batch_size: 2, precision: "no"}
"""


def cases(count: int) -> list[Case]:
    return [Case(str(i), Path(f"{i}.png"), None, "val", None, str(i), (1, 1), None) for i in range(count)]


def test_six_cases_are_spread_evenly_from_the_first_to_the_last() -> None:
    assert [case.id for case in evenly_spaced(cases(11), 6)] == ["0", "2", "4", "6", "8", "10"]
    assert [case.id for case in evenly_spaced(cases(10), 4)] == ["0", "3", "6", "9"]
    assert [case.id for case in evenly_spaced(cases(3), 6)] == ["0", "1", "2"]


def test_the_curve_is_drawn_at_most_once_in_the_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, drawn = [100.0], []
    monkeypatch.setattr(run_pictures.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(run_pictures, "draw_curve", lambda _, history: drawn.append(len(history)))
    keep = curve_callback(RunFolder(tmp_path))
    for second, count in ((100.0, 1), (129.0, 2), (130.0, 3), (159.0, 4), (161.0, 5)):
        now[0] = second
        keep([ROW] * count)
    assert drawn == [1, 3, 5]


def test_a_curve_that_cannot_be_drawn_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(run_pictures, "draw_curve", fail)
    messages: list[str] = []
    monkeypatch.setattr(run_pictures, "log_warning", messages.append)
    curve_callback(RunFolder(tmp_path))([ROW])
    assert messages == ["curve.png could not be drawn (no space left); the run continues"]


def test_training_leaves_a_curve_and_a_grid_of_the_best_weights(
    guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset, run, data = tmp_path / "p.yaml", tmp_path / "run", make_data()
    preset.write_text(PRESET)
    outcome = guidino("train", "--preset", preset, "--data", data, "-o", run, "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    assert (run / "curve.png").is_file()
    assert (run / "validation.png").is_file()
    rows: list[Any] = []
    monkeypatch.setattr(run_pictures, "validation_grid", lambda found, **_: rows.extend(found) or _Nothing())
    draw_validation_grid(RunFolder(run), device=torch.device("cpu"), offline=True)
    # The mean of the cases' Dice is the figure that training reported: same weights, same windows, same rule.
    assert sum(row.dice for row in rows) / len(rows) == pytest.approx(RunFolder(run).history()[0]["val_dice"])
    assert [row.name for row in rows] == ["case4", "case5"]


def test_a_finished_run_keeps_its_mark_and_needs_no_second_model(
    guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second model beside the trained one did not fit on the card, and the run then did not count as finished."""
    preset, run, data = tmp_path / "p.yaml", tmp_path / "run", make_data()
    preset.write_text(PRESET)

    def load_run(*_: Any, **__: Any) -> None:
        raise AssertionError("a second model was loaded")

    def fail(*_: Any, **__: Any) -> None:
        assert (run / "result.json").is_file()
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("guidino_cli.engine.runs.loading.load_run", load_run)
    words = ("train", "--preset", preset, "--data", data, "-o", run, "--device", "cpu")
    assert guidino(*words).code == 0
    assert (run / "validation.png").is_file()
    monkeypatch.setattr(run_pictures, "validation_grid", fail)
    outcome = guidino(*words, "--overwrite")
    assert outcome.code == 0
    assert "validation.png could not be drawn (CUDA out of memory" in outcome.stderr
    assert "the run is finished all the same" in outcome.stderr
    assert "figures" in outcome.stdout
    assert "validation.png" not in outcome.stdout
    assert not (run / "validation.png").exists()
    assert (run / "result.json").is_file()


class _Nothing:
    """A figure that saves an empty file."""

    def savefig(self, path: Path) -> None:
        path.touch()
