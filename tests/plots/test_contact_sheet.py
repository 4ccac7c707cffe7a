"""The page of outlined images."""

import numpy as np

from guidino_cli.plots.contact_sheet import Tile, contact_sheet, draw_outlined_thumbnail
from guidino_cli.plots.outlines import outline_colour


def test_a_mask_is_outlined_and_its_inside_left_alone() -> None:
    image = np.full((60, 60, 3), 100, dtype=np.uint8)
    labels = np.zeros((60, 60), dtype=np.uint8)
    labels[20:40, 20:40] = 1
    drawn = draw_outlined_thumbnail(image, labels, size=60)
    assert "#{:02x}{:02x}{:02x}".format(*drawn[20, 30].tolist()) == outline_colour(1)
    assert drawn[30, 30].tolist() == [100, 100, 100]
    assert drawn[5, 5].tolist() == [100, 100, 100]


def test_the_edge_of_the_picture_is_no_outline() -> None:
    full = draw_outlined_thumbnail(
        np.full((40, 40, 3), 100, dtype=np.uint8), np.ones((40, 40), dtype=np.uint8), size=40
    )
    assert (full == 100).all()


def test_the_sheet_names_every_case_and_class() -> None:
    tile = Tile(np.zeros((30, 50, 3), dtype=np.uint8), np.zeros((30, 50), dtype=np.uint8), "case", "train, 0.0 %")
    figure = contact_sheet([tile] * 7, heading="set", classes=["background", "disc", "cup"])
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words.count("case\ntrain, 0.0 %") == 7
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["disc", "cup"]


def test_tiles_of_all_shapes_fit_their_cells() -> None:
    shapes = [(30, 50), (50, 30), (7, 90), (90, 7), (33, 33)]
    tiles = [Tile(np.zeros((*shape, 3), dtype=np.uint8), np.zeros(shape, dtype=np.uint8), "a", "b") for shape in shapes]
    figure = contact_sheet(tiles, heading="set", classes=["background", "disc"], columns=2)
    page = np.asarray(figure.axes[0].images[0].get_array())
    # Black tiles on white: the page edge stays white, so nothing was cut off.
    assert page[0].min() == page[-1].min() == page[:, 0].min() == page[:, -1].min() == 255
    assert (page == 0).any()


def test_a_marked_tile_says_why_and_is_framed() -> None:
    image, labels = np.zeros((30, 50, 3), dtype=np.uint8), np.zeros((30, 50), dtype=np.uint8)
    tiles = [Tile(image, labels, "a", "train"), Tile(image, labels, "b", "train", "inverted?")]
    axes = contact_sheet(tiles, heading="set", classes=["background", "disc"]).axes[0]
    (mark,) = (text for text in axes.texts if text.get_text() == "inverted?")
    (frame,) = axes.patches
    assert frame.get_x() < mark.get_position()[0] < frame.get_x() + frame.get_width()


def test_a_legend_of_twenty_classes_lies_below_the_captions() -> None:
    tile = Tile(np.zeros((60, 60, 3), np.uint8), np.zeros((60, 60), np.uint8), "a", "train, 1.0 % foreground")
    classes = ["background", *(f"structure {number}" for number in range(1, 21))]
    figure = contact_sheet([tile] * 3, heading="x", classes=classes)
    figure.canvas.draw()
    axes = figure.axes[0]
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == classes[1:]
    box = legend.get_window_extent()
    captions = [text.get_window_extent() for text in axes.texts]
    assert box.y1 <= min(caption.y0 for caption in captions)
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= 0
