"""Panels of a guide and of a backbone."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex

from guidino_cli.plots.contact_sheet import outline_colour
from guidino_cli.plots.guide import backbone_panel, guide_panel

SIZE = (60, 80)
IMAGE = np.full((*SIZE, 3), 120, dtype=np.uint8)


def block(value: int = 1) -> np.ndarray:
    labels = np.zeros(SIZE, dtype=np.uint8)
    labels[20:40, 30:50] = value
    return labels


def guide(value: float = 0.5) -> np.ndarray:
    return np.full(SIZE, value)


def words(figure) -> list[str]:
    figure.canvas.draw()
    return [text.get_text() for axes in figure.axes for text in axes.texts] + [text.get_text() for text in figure.texts]


def drawn_colour(figure) -> list[float]:
    return figure.axes[1].images[0].get_array()[30, 40].tolist()


def drawn_guide(value: float) -> list[float]:
    return drawn_colour(guide_panel(IMAGE, guide(value), block(), name="a.png", classes=["background", "polyp"]))


def test_panels_are_of_one_size_on_one_line_and_do_not_overlap() -> None:
    figure = guide_panel(
        IMAGE, guide(), block(), name="a.png", classes=["background", "polyp"], truth=block(), dice=1.0
    )
    boxes = [axes.get_position() for axes in figure.axes[:4]]
    assert {(round(box.width, 6), round(box.height, 6), round(box.y0, 6)) for box in boxes} == {
        (round(boxes[0].width, 6), round(boxes[0].height, 6), round(boxes[0].y0, 6))
    }
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_a_panel_has_the_shape_of_its_image() -> None:
    figure = guide_panel(IMAGE, guide(), block(), name="a.png", classes=["background", "polyp"])
    width, height = figure.get_size_inches()
    box = figure.axes[0].get_position()
    assert box.height * height / (box.width * width) == pytest.approx(60 / 80)


def test_without_truth_there_is_no_panel_for_it() -> None:
    with_truth = guide_panel(IMAGE, guide(), block(), name="a", classes=["background", "polyp"], truth=block())
    without = guide_panel(IMAGE, guide(), block(), name="a", classes=["background", "polyp"])
    assert "truth" in words(with_truth)
    assert "truth" not in words(without)


def test_one_guide_value_has_one_colour_whatever_else_the_map_holds() -> None:
    mixed = guide(0.5)
    mixed[0, 0], mixed[0, 1] = 0.0, 1.0
    figure = guide_panel(IMAGE, mixed, block(), name="a.png", classes=["background", "polyp"])
    assert drawn_colour(figure) == drawn_guide(0.5)
    assert drawn_guide(0.5) != drawn_guide(0.6)


def test_over_mid_grey_the_guide_has_the_colour_of_its_bar() -> None:
    grey = np.full((*SIZE, 3), 128, dtype=np.uint8)
    figure = guide_panel(grey, guide(1.0), block(), name="a", classes=["background", "polyp"])
    bar = next(drawn for drawn in figure.axes[-1].collections if drawn.get_array() is not None)
    assert drawn_colour(figure) == pytest.approx(bar.cmap(1.0)[:3], abs=0.01)


def test_the_range_of_the_guide_is_written_above_it() -> None:
    mixed = guide(0.44)
    mixed[3, 3] = 0.58
    assert "from 0.44 to 0.58" in words(guide_panel(IMAGE, mixed, block(), name="a", classes=["background", "polyp"]))


def test_an_empty_prediction_says_so() -> None:
    figure = guide_panel(IMAGE, guide(), block(0), name="a", classes=["background", "polyp"], truth=block(), dice=0.0)
    assert "Dice 0.000, nothing found" in words(figure)


def test_each_class_is_outlined_in_its_own_colour_where_it_is() -> None:
    labels = block()
    labels[5:10, 5:10] = 2
    figure = guide_panel(IMAGE, guide(), labels, name="a", classes=["background", "rim", "cup"])
    first, second = figure.axes[2].collections
    assert [to_hex(lines.get_edgecolor()[0]) for lines in (first, second)] == [outline_colour(1), outline_colour(2)]
    corners = first.get_paths()[0].get_extents()
    assert (corners.x0, corners.x1, corners.y0, corners.y1) == (29.5, 49.5, 19.5, 39.5)


def test_the_outline_of_a_large_mask_keeps_its_place() -> None:
    labels = np.zeros((2400, 3600), dtype=np.uint8)
    labels[600:1200, 900:1800] = 1
    image = np.zeros((2400, 3600, 3), dtype=np.uint8)
    figure = guide_panel(image, np.zeros((2400, 3600)), labels, name="a", classes=["background", "polyp"])
    corners = figure.axes[2].collections[0].get_paths()[0].get_extents()
    assert (corners.x0, corners.x1) == (pytest.approx(899.5, abs=3), pytest.approx(1799.5, abs=3))
    assert (corners.y0, corners.y1) == (pytest.approx(599.5, abs=3), pytest.approx(1199.5, abs=3))


def test_a_long_name_is_shortened_and_keeps_both_ends() -> None:
    name = "first" + "x" * 200 + "last.png"
    heading = guide_panel(IMAGE, guide(), block(), name=name, classes=["background", "polyp"]).texts[0].get_text()
    assert len(heading) == 45
    assert heading.startswith("first")
    assert heading.endswith("last.png")


@pytest.mark.parametrize("size_hw", [(60, 80), (300, 60), (40, 400)])
def test_every_word_lies_within_the_page(size_hw: tuple[int, int]) -> None:
    labels = np.zeros(size_hw, dtype=np.uint8)
    labels[5:20, 5:20] = 1
    figure = guide_panel(
        np.zeros((*size_hw, 3), dtype=np.uint8),
        np.full(size_hw, 0.5),
        labels,
        name="a name of common length.png",
        classes=["background", "polyp"],
        source="run kvasir-nnwnet: GuiDINO-W on Kvasir-SEG",
        truth=labels,
        dice=0.5,
    )
    figure.canvas.draw()
    page, tight = figure.bbox_inches, figure.get_tightbbox()
    assert tight.x0 >= 0
    assert tight.y0 >= 0
    assert tight.x1 <= page.x1
    assert tight.y1 <= page.y1


def test_the_frame_surrounds_the_patch_in_every_panel() -> None:
    figure = backbone_panel(
        IMAGE, np.zeros((3, 4, 3)), np.ones((3, 4)), patch=(1, 2), name="a", explained=0.5, chosen="salient patch"
    )
    for axes in figure.axes[:3]:
        box = axes.patches[0].get_bbox()
        # The cell of 20 x 20 pixels at row 1, column 2 with half a cell around it.
        assert (box.x0, box.y0, box.x1, box.y1) == (29.5, 9.5, 69.5, 49.5)


def test_tokens_are_drawn_over_the_whole_image() -> None:
    figure = backbone_panel(
        IMAGE, np.zeros((3, 4, 3)), np.ones((3, 4)), patch=(1, 2), name="a", explained=0.456, chosen="patch at 45,25"
    )
    assert figure.axes[1].images[0].get_extent() == [-0.5, 79.5, 59.5, -0.5]
    assert "46% of the variance, 4 x 3 tokens" in words(figure)
