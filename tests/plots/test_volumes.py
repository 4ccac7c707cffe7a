"""Figures of volumes: where letters and captions are, and what they say."""

from itertools import combinations

import numpy as np
import pytest

from guidino_cli.plots.plane_sheet import Panel, PanelRow, plane_sheet
from guidino_cli.plots.planes import PLANES, Position
from guidino_cli.plots.volumes import (
    VolumeTile,
    describe_spacing,
    rescale_position,
    view_volume,
    volume_contact_sheet,
    volume_errors,
    volume_validation_grid,
)

CLASSES = ["background", "anterior", "posterior"]


def _volume(shape: tuple[int, int, int] = (9, 40, 50)) -> tuple[np.ndarray, np.ndarray]:
    truth = np.zeros(shape, dtype=np.uint8)
    truth[2:5, 10:20, 10:30] = 1
    return np.linspace(0, 1, truth.size).reshape(shape), truth


def _view(name: str = "case", *, guide: bool = False, shape: tuple[int, int, int] = (9, 40, 50)):
    image, truth = _volume(shape)
    maps = np.linspace(0.4, 0.6, 36).reshape(2, 3, 6) if guide else None
    return view_volume(name, image, (7.5, 0.5, 0.5), truth=truth, labels=truth[::-1], guide=maps)


def test_letters_are_outside_the_picture_on_the_side_that_they_name() -> None:
    picture = np.zeros((60, 80, 3), dtype=np.uint8)
    figure = plane_sheet([PanelRow([Panel(picture, PLANES.axial.edges)])])
    figure.canvas.draw()
    page = np.asarray(figure.axes[0].images[0].get_array())
    rows, columns = np.nonzero((page == 0).all(axis=2))
    places = {text.get_text(): text.get_position() for text in figure.axes[0].texts if text.get_text() in "RLAP"}
    assert places["R"][0] < columns.min()
    assert places["L"][0] > columns.max()
    assert places["A"][1] < rows.min()
    assert places["P"][1] > rows.max()


def test_letters_do_not_touch_pictures_or_other_texts() -> None:
    shapes = [(9, 40, 50), (1, 40, 50), (200, 40, 50), (9, 300, 20)]
    tiles = [VolumeTile(_view(shape=shape), "hippocampus_015", "train, 4.2 %", "inverted?") for shape in shapes]
    figure = volume_contact_sheet(tiles, heading="one\ntwo", classes=CLASSES)
    figure.canvas.draw()
    axes = figure.axes[0]
    texts = [text for text in axes.texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts] + [axes.get_legend().get_window_extent()]
    assert not any(first.overlaps(second) for first, second in combinations(boxes, 2))
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1 for box in boxes)
    page = np.asarray(axes.images[0].get_array())
    for text, box in zip(texts, boxes, strict=False):
        rows = slice(len(page) - int(box.y1), len(page) - int(box.y0))
        assert (page[rows, int(box.x0) : int(box.x1) + 1] == 255).all(), text.get_text()


def test_slices_are_counted_from_one() -> None:
    figure = volume_contact_sheet([VolumeTile(_view(), "case", "train")], heading="x", classes=CLASSES)
    texts = [text.get_text() for text in figure.axes[0].texts]
    # The box spans z 2 to 4, y 10 to 19, x 10 to 29.
    assert [text for text in texts if text.startswith("slice")] == ["slice 4 of 9", "slice 16 of 40", "slice 21 of 50"]


def test_the_caption_says_which_side_is_which() -> None:
    figure = volume_contact_sheet([VolumeTile(_view(), "case", "train")], heading="x", classes=CLASSES)
    texts = " ".join(text.get_text().replace("\n", " ") for text in figure.axes[0].texts)
    assert "the patient's right is on the left" in texts


@pytest.mark.parametrize("guide", [False, True])
def test_validation_shows_truth_and_prediction_of_each_plane(guide: bool) -> None:
    rows = [(_view(f"case {number}", guide=guide), 0.5) for number in range(3)]
    figure = volume_validation_grid(rows, name="run x", classes=CLASSES)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "axial: truth" in texts
    assert "sagittal: prediction" in texts
    assert ("coronal: guide" in texts) == guide
    assert any(text.startswith("Dice 0.500") for text in texts)
    assert len(figure.axes) == (2 if guide else 1)
    assert texts.count("L") == 3 * (6 if guide else 4)


def test_without_a_known_orientation_there_are_no_letters() -> None:
    from dataclasses import replace

    figure = volume_errors(replace(_view(), oriented=False, image=None))
    assert not [text for text in figure.axes[0].texts if text.get_text() in set("RLAPSI")]


def test_the_prediction_places_the_slices_where_the_truth_is_empty() -> None:
    image, truth = _volume()
    view = view_volume("case", image, (1, 1, 1), truth=np.zeros_like(truth), labels=truth)
    assert view.position == (3, 15, 20)


def test_voxels_that_do_not_count_are_drawn_as_background() -> None:
    image, truth = _volume()
    truth[0] = 255
    truth[3, 0] = 255
    view = view_volume("case", image, (1, 1, 1), truth=truth, ignore_label=255)
    assert view.position == (3, 15, 20)
    assert view.truth is not None
    assert {int(value) for plane in view.truth for value in np.unique(plane)} == {0, 1}


def test_intensities_are_normalized_slice_by_slice() -> None:
    view = view_volume("case", np.full((2, 3, 4), 50), (1, 1, 1), normalize=lambda values: values / 100)
    assert view.image is not None
    assert [float(cut.max()) for cut in view.image] == [0.5, 0.5, 0.5]


def test_a_coarse_grid_is_cut_where_it_covers_the_slice() -> None:
    assert rescale_position(Position(8, 0, 25), (9, 40, 50), (2, 3, 6)) == (1, 0, 3)


def test_spacing_is_said_in_words() -> None:
    assert describe_spacing((7.499999, 0.5, 0.5)) == "pixels 0.5 x 0.5 mm, slices 7.5 mm"


def test_small_foreground_is_enlarged_below_its_errors() -> None:
    truth = np.zeros((3, 100, 100), dtype=np.uint8)
    truth[1, 50:53, 60:64] = 1
    small = view_volume("case", truth * 0.5, (5, 1, 1), truth=truth, labels=truth)
    texts = [text.get_text() for text in volume_errors(small).axes[0].texts]
    assert "close-up of small foreground" in texts
    assert texts.count("A") > 2
    assert "close-up of small foreground" not in [text.get_text() for text in volume_errors(_view()).axes[0].texts]


def test_a_picture_of_one_slice_without_directions_is_shown_alone() -> None:
    image, truth = _volume((1, 40, 50))
    truth[0, 5:9, 5:9] = 1
    view = view_volume("case", image, (1, 1, 1), truth=truth, labels=truth, oriented=False)
    figure = volume_validation_grid([(view, 0.5)], name="run x", classes=CLASSES)
    texts = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert texts == ["run x", "case", "Dice 0.500", "truth", "prediction"]
