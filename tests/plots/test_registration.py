"""Figures of registrations: squares of a checkerboard, lines of a grid, and the page of a pair."""

from itertools import combinations

import numpy as np
import pytest

from guidino_cli.plots.registration import RegistrationView, checkerboard, draw_grid, registration_figure

YELLOW, RED = [255, 214, 0], [226, 26, 28]


def test_squares_of_both_pictures_alternate() -> None:
    fixed, moving = np.full((80, 40, 3), 10, np.uint8), np.full((80, 40, 3), 200, np.uint8)
    board = checkerboard(fixed, moving)
    # Eight squares of 10 pixels along the longer side.
    is_fixed = (board == 10).all(axis=2)[5::10, 5::10]
    assert is_fixed.shape == (8, 4)
    assert (is_fixed == (np.indices((8, 4)).sum(axis=0) % 2 == 0)).all()


def test_without_displacement_lines_are_straight_and_evenly_spaced() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    rows, columns = np.indices((64, 64)).astype(float)
    drawn = draw_grid(picture, rows, columns)
    # Sixteen lines of the longer side, four pixels apart; the middle of a line lies between two pixels.
    bright = drawn[:, :, 0].astype(int).sum(axis=0)
    assert np.flatnonzero(bright > bright.mean()).tolist() == [
        column for line in range(0, 65, 4) for column in (line - 1, line) if 0 <= column < 64
    ]


def test_lines_follow_the_displacement_and_folds_are_red() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    rows, columns = np.indices((64, 64)).astype(float)
    still, moved = (draw_grid(picture, rows, columns + shift) for shift in (0, 2))
    # Lines of the moving image that lies two pixels to the right are seen two pixels to the left.
    assert np.array_equal(moved[:, 8:50], still[:, 10:52])
    folds = np.zeros((64, 64), bool)
    folds[20:24, 30:34] = True
    drawn = draw_grid(picture, rows, columns, folds=folds)
    assert drawn[22, 32].tolist() == RED
    assert drawn[40, 40].tolist() != RED


@pytest.mark.parametrize("shape", [(1, 60, 80), (12, 40, 50)])
def test_the_page_of_a_pair_has_six_titles_that_do_not_overlap(shape: tuple[int, int, int]) -> None:
    values = np.random.default_rng(0).random(shape)
    labels = (values > 0.9).astype(np.uint8)
    view = RegistrationView(
        "pair", values, values, values, np.zeros((3, *shape)), np.zeros(shape, bool), (1.0, 1.0, 1.0),
        (labels, labels, labels), shape[0] > 1,
    )  # fmt: skip
    figure = registration_figure(view, detail="Dice 0.591 before, 0.766 after; 0.23 % folded")
    figure.canvas.draw()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    assert [text.get_text() for text in texts if text.get_fontsize() == 9] == [
        "fixed", "moving", "warped", "checkerboard before", "checkerboard after", "grid",
    ]  # fmt: skip
    boxes = [text.get_window_extent() for text in texts]
    assert not any(first.overlaps(second) for first, second in combinations(boxes, 2))
