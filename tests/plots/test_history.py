"""Figures of a training run."""

from typing import Any

import numpy as np
import pytest

from guidino_cli.plots.history import ValidationRow, training_curve, validation_grid


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


LABELS = np.zeros((30, 40), dtype=np.uint8)
LABELS[5:20, 5:20] = 1


def row(
    name: str = "case", *, dice: float = 0.5, guide: bool = True, size_hw: tuple[int, int] = (30, 40)
) -> ValidationRow:
    labels = np.resize(LABELS, size_hw)
    image = np.zeros((*size_hw, 3), dtype=np.uint8)
    return ValidationRow(name, dice, image, labels, labels, np.full(size_hw, 0.5) if guide else None)


def texts(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_every_case_has_a_row_with_its_dice() -> None:
    figure = validation_grid([row("a", dice=0.25), row("b", dice=1.0)], name="run", classes=["background", "polyp"])
    assert {"a", "Dice 0.250", "b", "Dice 1.000"} <= set(texts(figure))
    # Two rows of four panels and the bar of the guide.
    assert len(figure.axes) == 9


def test_without_a_guide_there_is_no_column_and_no_bar_for_it() -> None:
    figure = validation_grid([row(guide=False)], name="run", classes=["background", "polyp"])
    assert [text for text in texts(figure) if text in {"image", "truth", "guide", "prediction"}] == [
        "image",
        "truth",
        "prediction",
    ]
    assert len(figure.axes) == 3


def test_rows_of_other_sizes_share_the_columns_and_do_not_overlap() -> None:
    cases = [row(size_hw=(30, 40)), row(size_hw=(60, 40)), row(size_hw=(20, 400))]
    figure = validation_grid(cases, name="run", classes=["background", "polyp"])
    first = [figure.axes[index].get_position(original=True) for index in (0, 4, 8)]
    assert len({round(box.x0, 6) for box in first}) == 1
    assert first[0].y0 > first[1].y1
    assert first[1].y0 > first[2].y1


def test_the_bar_under_the_guides_spans_what_they_span() -> None:
    guides = [np.full((8, 8), 0.4), np.full((8, 8), 0.6)]
    blank = np.zeros((8, 8, 3), dtype=np.uint8)
    labels = np.zeros((8, 8), dtype=np.uint8)
    rows = [ValidationRow(str(i), 1.0, blank, labels, labels, guide) for i, guide in enumerate(guides)]
    figure = validation_grid(rows, name="run", classes=["background", "polyp"])
    bars = [axes for axes in figure.axes if axes.get_xlabel() == "guide value"]
    assert [bar.get_xlim() for bar in bars] == [pytest.approx((0.4, 0.6))]


def test_the_ends_of_the_bar_are_told() -> None:
    guides = [np.full((30, 40), 0.0949), np.full((30, 40), 0.8951)]
    image = np.zeros((30, 40, 3), dtype=np.uint8)
    cases = [ValidationRow(str(i), 1.0, image, LABELS, LABELS, guide) for i, guide in enumerate(guides)]
    figure = validation_grid(cases, name="run", classes=["background", "polyp"])
    (bar,) = [axes for axes in figure.axes if axes.get_xlabel() == "guide value"]
    low, high = bar.get_xlim()
    assert (bar.get_xticks()[0], bar.get_xticks()[-1]) == (pytest.approx(low), pytest.approx(high)) == (0.09, 0.9)
