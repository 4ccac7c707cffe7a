"""The page of validation cases."""

import numpy as np
import pytest

from guidino_cli.plots.validation import Row, validation_grid

LABELS = np.zeros((30, 40), dtype=np.uint8)
LABELS[5:20, 5:20] = 1


def row(name: str = "case", *, dice: float = 0.5, guide: bool = True, size_hw: tuple[int, int] = (30, 40)) -> Row:
    labels = np.resize(LABELS, size_hw)
    image = np.zeros((*size_hw, 3), dtype=np.uint8)
    return Row(name, dice, image, labels, labels, np.full(size_hw, 0.5) if guide else None)


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
    rows = [Row(str(i), 1.0, blank, labels, labels, guide) for i, guide in enumerate(guides)]
    figure = validation_grid(rows, name="run", classes=["background", "polyp"])
    bars = [axes for axes in figure.axes if axes.get_xlabel() == "guide value"]
    assert [bar.get_xlim() for bar in bars] == [pytest.approx((0.4, 0.6))]


def test_the_ends_of_the_bar_are_told() -> None:
    guides = [np.full((30, 40), 0.0949), np.full((30, 40), 0.8951)]
    image = np.zeros((30, 40, 3), dtype=np.uint8)
    cases = [Row(str(i), 1.0, image, LABELS, LABELS, guide) for i, guide in enumerate(guides)]
    figure = validation_grid(cases, name="run", classes=["background", "polyp"])
    (bar,) = [axes for axes in figure.axes if axes.get_xlabel() == "guide value"]
    low, high = bar.get_xlim()
    assert (bar.get_xticks()[0], bar.get_xticks()[-1]) == (pytest.approx(low), pytest.approx(high)) == (0.09, 0.9)
