"""The curve of a training run."""

from typing import Any

import pytest

from guidino_cli.plots.history import training_curve


def rows(scores: list[float | None]) -> list[dict[str, Any]]:
    """One epoch a score, None where validation was skipped."""
    history: list[dict[str, Any]] = []
    for epoch, score in enumerate(scores, start=1):
        row = {
            "epoch": epoch,
            "lr": 0.1,
            "dice": 0.5 / epoch,
            "guide": 0.1,
            "loss": 0.5 / epoch + 0.1,
            "train_seconds": 9.0,
        }
        history.append(row if score is None else row | {"val_dice": score, "val_seconds": 3.0})
    return history


def test_every_loss_term_has_a_line_and_seconds_have_none() -> None:
    losses = training_curve(rows([0.1, 0.2])).axes[0]
    assert [line.get_label() for line in losses.lines] == ["total", "dice", "guide"]
    assert losses.lines[1].get_ydata().tolist() == [0.5, 0.25]


def test_the_best_epoch_is_the_first_of_equals() -> None:
    scores = training_curve(rows([0.1, 0.8, 0.3, 0.8])).axes[1]
    assert scores.get_title(loc="right") == "best 0.8000 in epoch 2"
    star = next(line for line in scores.lines if line.get_marker() == "*")
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (2, 0.8)


def test_epochs_without_validation_are_left_out_of_the_line() -> None:
    scores = training_curve(rows([None, 0.2, None, 0.4])).axes[1]
    assert scores.lines[0].get_xdata().tolist() == [2, 4]


@pytest.mark.parametrize(("count", "marker"), [(1, "o"), (400, "None")])
def test_one_epoch_is_a_dot_and_many_are_a_line(count: int, marker: str) -> None:
    figure = training_curve(rows([0.5] * count), name="run a")
    assert {line.get_marker() for line in figure.axes[0].lines} == {marker}
    low, high = figure.axes[1].get_xlim()
    ticks = [tick for tick in figure.axes[1].get_xticks() if low <= tick <= high]
    assert 1 <= len(ticks) <= 12
    assert all(tick == round(tick) for tick in ticks)


def test_before_the_first_validation_it_says_so() -> None:
    assert [text.get_text() for text in training_curve(rows([None])).axes[1].texts] == ["not measured yet"]


def test_a_run_that_has_not_begun_has_a_page_too() -> None:
    training_curve([]).canvas.draw()
