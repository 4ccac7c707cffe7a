"""The figure of a guide."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_hex

from guidino_cli.plots.guide import guide_figure
from guidino_cli.plots.outlines import outline_colour
from guidino_cli.plots.views import GuideMap, GuideStyle, GuideView, select_evenly, value_limits

SIZE = (60, 80)
IMAGE = np.full((*SIZE, 3), 120, dtype=np.uint8)
STYLE = GuideStyle(["background", "polyp"])


def block(value: int = 1) -> np.ndarray:
    labels = np.zeros(SIZE, dtype=np.uint8)
    labels[20:40, 30:50] = value
    return labels


def guide(value: float = 0.5) -> np.ndarray:
    return np.full(SIZE, value, dtype=np.float32)


def view(values: np.ndarray, labels: np.ndarray, *, truth: np.ndarray | None = None, image=IMAGE, **facts) -> GuideView:
    target = None if truth is None else truth > 0
    item = GuideMap("foreground", values, target, 0.75, iou=(0.25,))
    return GuideView(facts.pop("name", "a.png"), labels.shape, image, labels, [item], truth=truth, **facts)


def words(figure) -> list[str]:
    figure.set_dpi(20)  # the same words, drawn sooner
    figure.canvas.draw()
    inside = [text.get_text() for axes in figure.axes for text in axes.texts] + [
        text.get_text() for text in figure.texts
    ]
    return inside + [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def titled(figure, title: str):
    """The panel with this title."""
    return next(axes for axes in figure.axes if title in [text.get_text() for text in axes.texts])


def map_colour(figure) -> list[float]:
    return titled(figure, "guide").images[0].get_array()[30, 40].tolist()


def drawn_guide(value: float, style: GuideStyle = STYLE) -> list[float]:
    return map_colour(guide_figure(view(guide(value), block()), style))


def test_panels_are_of_one_size_on_one_line_and_do_not_overlap() -> None:
    figure = guide_figure(view(guide(), block()), STYLE)
    boxes = [axes.get_position() for axes in figure.axes[:4]]
    assert {(round(box.width, 6), round(box.height, 6), round(box.y0, 6)) for box in boxes} == {
        (round(boxes[0].width, 6), round(boxes[0].height, 6), round(boxes[0].y0, 6))
    }
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_a_panel_has_the_shape_of_its_image() -> None:
    figure = guide_figure(view(guide(), block()), STYLE)
    width, height = figure.get_size_inches()
    box = figure.axes[0].get_position()
    assert box.height * height / (box.width * width) == pytest.approx(60 / 80)


def test_without_truth_nothing_is_compared_with_it() -> None:
    with_truth = guide_figure(view(guide(), block(), truth=block()), STYLE)
    without = guide_figure(view(guide(), block()), STYLE)
    assert {"truth", "IoU with the truth", "guide at 0.5"} <= set(words(with_truth))
    assert not {"truth", "IoU with the truth", "guide at 0.5"} & set(words(without))


def test_within_fixed_limits_one_guide_value_has_one_colour_whatever_else_the_map_holds() -> None:
    mixed = guide(0.5)
    mixed[0, 0], mixed[0, 1] = 0.0, 1.0
    assert map_colour(guide_figure(view(mixed, block()), STYLE)) == drawn_guide(0.5)
    assert drawn_guide(0.5) != drawn_guide(0.6)


def test_limits_decide_which_value_has_the_last_colour() -> None:
    narrow = GuideStyle(["background", "polyp"], (0.43, 0.56))
    assert drawn_guide(0.56, narrow) == drawn_guide(1.0)
    assert drawn_guide(0.43, narrow) == drawn_guide(0.0)


def test_limits_of_each_image_are_those_of_its_values() -> None:
    own = GuideStyle(["background", "polyp"], None)
    mixed = guide(0.44)
    mixed[30, 40] = 0.58
    assert map_colour(guide_figure(view(mixed, block()), own)) == drawn_guide(1.0)
    assert value_limits([mixed]) == pytest.approx((0.44, 0.58))


def test_the_limits_of_a_constant_map_are_apart() -> None:
    assert value_limits([guide(0.5)]) == pytest.approx((0.495, 0.505))


def test_over_mid_grey_the_guide_has_the_colour_of_its_bar() -> None:
    grey = np.full((*SIZE, 3), 128, dtype=np.uint8)
    figure = guide_figure(view(guide(1.0), block(), image=grey), STYLE)
    bar = next(drawn for drawn in figure.axes[-1].collections if drawn.get_array() is not None)
    colour = titled(figure, "guide over the image").images[0].get_array()[30, 40].tolist()
    assert colour == pytest.approx(bar.cmap(1.0)[:3], abs=0.01)


def test_the_range_of_the_guide_and_its_auroc_are_written() -> None:
    mixed = guide(0.44)
    mixed[3, 3] = 0.58
    found = words(guide_figure(view(mixed, block(), truth=block()), STYLE))
    assert "from 0.44 to 0.58" in found
    assert "AUROC of the guide alone 0.750" in found


def test_the_iou_at_a_half_is_written_beside_the_curve() -> None:
    assert "0.25 at 0.5" in words(guide_figure(view(guide(), block(), truth=block()), STYLE))


def test_an_image_without_foreground_says_that_there_is_nothing_to_rank() -> None:
    item = GuideMap("foreground", guide(), np.zeros(SIZE, dtype=bool), iou=(float("nan"),))
    empty = GuideView("a.png", SIZE, IMAGE, block(0), [item], truth=block(0), dice=1.0)
    found = words(guide_figure(empty, STYLE))
    assert "no AUROC: nothing to rank" in found
    assert "the truth is empty" in found


def test_several_maps_have_their_classes_names() -> None:
    maps = [GuideMap(name, guide(), block() > 0, 0.5, iou=(0.5,)) for name in ("rim", "cup")]
    several = GuideView("a.png", SIZE, IMAGE, block(), maps, truth=block())
    found = words(guide_figure(several, GuideStyle(["background", "rim", "cup"])))
    assert {"guide: rim", "guide: cup", "guide at 0.5, any class"} <= set(found)


def test_two_guides_are_drawn_side_by_side_with_their_difference() -> None:
    item = GuideMap("foreground", guide(0.75), None, other=guide(0.5))
    style = GuideStyle(["background", "polyp"], titles=("with LoRA", "LoRA switched off"))
    found = words(guide_figure(GuideView("a.png", SIZE, IMAGE, block(), [item]), style))
    assert {"with LoRA", "LoRA switched off", "difference", "from +0.25 to +0.25"} <= set(found)


@pytest.mark.parametrize(("spacing", "text"), [(None, "20 px"), (0.25, "5 mm")])
def test_a_scale_bar_is_a_round_length_of_at_most_a_quarter(spacing: float | None, text: str) -> None:
    assert text in words(guide_figure(view(guide(), block()), GuideStyle(["background", "polyp"], spacing_mm=spacing)))


def test_an_empty_prediction_says_so() -> None:
    figure = guide_figure(view(guide(), block(0), truth=block(), dice=0.0), STYLE)
    assert "Dice 0.000, nothing found" in words(figure)


def test_each_class_is_outlined_in_its_own_colour_where_it_is() -> None:
    labels = block()
    labels[5:10, 5:10] = 2
    figure = guide_figure(view(guide(), labels), GuideStyle(["background", "rim", "cup"]))
    first, second = titled(figure, "prediction of the network").collections
    assert [to_hex(lines.get_edgecolor()[0]) for lines in (first, second)] == [outline_colour(1), outline_colour(2)]
    corners = first.get_paths()[0].get_extents()
    assert (corners.x0, corners.x1, corners.y0, corners.y1) == (29.5, 49.5, 19.5, 39.5)


def test_an_outline_on_a_coarser_grid_keeps_its_place() -> None:
    labels = np.zeros((240, 360), dtype=np.uint8)
    labels[60:120, 90:180] = 1
    item = GuideMap("foreground", np.zeros((24, 36), dtype=np.float32))
    large = GuideView("a", (2400, 3600), np.zeros((240, 360, 3), dtype=np.uint8), labels, [item])
    corners = (
        titled(guide_figure(large, STYLE), "prediction of the network").collections[0].get_paths()[0].get_extents()
    )
    assert (corners.x0, corners.x1) == (pytest.approx(899.5, abs=6), pytest.approx(1799.5, abs=6))
    assert (corners.y0, corners.y1) == (pytest.approx(599.5, abs=6), pytest.approx(1199.5, abs=6))


def test_a_long_name_is_shortened_and_keeps_both_ends() -> None:
    name = "first" + "x" * 200 + "last.png"
    heading = guide_figure(view(guide(), block(), name=name), STYLE).texts[0].get_text()
    assert heading.startswith("first")
    assert heading.endswith("last.png")
    assert len(heading) == 60


@pytest.mark.parametrize("size_hw", [(60, 80), (300, 60), (40, 400)])
def test_every_word_lies_within_the_page(size_hw: tuple[int, int]) -> None:
    labels = np.zeros(size_hw, dtype=np.uint8)
    labels[5:20, 5:20] = 1
    style = GuideStyle(["background", "polyp"], source="run kvasir-nnwnet: GuiDINO-W on Kvasir-SEG")
    image = np.zeros((*size_hw, 3), dtype=np.uint8)
    seen = view(np.full(size_hw, 0.5, dtype=np.float32), labels, truth=labels, image=image, dice=0.5)
    figure = guide_figure(seen, style)
    figure.canvas.draw()
    page, tight = figure.bbox_inches, figure.get_tightbbox()
    assert tight.x0 >= 0
    assert tight.y0 >= 0
    assert tight.x1 <= page.x1
    assert tight.y1 <= page.y1


def test_the_lines_drawn_are_few_evenly_spread_and_among_them_a_half() -> None:
    assert select_evenly([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], 5) == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert select_evenly([0.2, 0.5], 5) == [0.2, 0.5]
