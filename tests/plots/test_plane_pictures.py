"""Pictures of slices in colours."""

import numpy as np

from guidino_cli.plots.outlines import outline_colour
from guidino_cli.plots.panels import apply_colormap
from guidino_cli.plots.plane_pictures import errors_picture, grey_picture, guide_picture, outlined_picture
from guidino_cli.plots.report import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE, WRONG_CLASS


def _hex(pixel: np.ndarray) -> str:
    return "#{:02x}{:02x}{:02x}".format(*pixel.tolist())


def test_values_beyond_black_and_white_are_clipped_and_unknown_ones_black() -> None:
    values = np.array([[-1.0, 0.0, 0.5, 1.0, 2.0, np.nan]])
    assert grey_picture(values, (1, 6))[0, :, 0].tolist() == [0, 0, 128, 255, 255, 0]


def test_every_class_has_its_colour_of_the_legend_and_its_inside_is_left_alone() -> None:
    labels = np.zeros((40, 40), dtype=np.uint8)
    labels[5:15, 5:35] = 1
    labels[20:35, 5:35] = 2
    picture = outlined_picture(np.full((40, 40), 0.4), labels, (80, 80))
    assert _hex(picture[10, 40]) == outline_colour(1)
    assert _hex(picture[40, 40]) == outline_colour(2)
    assert picture[20, 40].tolist() == [102, 102, 102]
    assert picture[77, 3].tolist() == [102, 102, 102]


def test_a_guide_of_a_coarse_grid_covers_the_slice() -> None:
    guide = np.array([[0.0, 1.0]])
    picture = guide_picture(None, guide, (10, 40), limits=(0.0, 1.0))
    ends = (apply_colormap(guide) * 255).round()[0]
    assert picture[5, 0].tolist() == ends[0].tolist()
    assert picture[5, 39].tolist() == ends[1].tolist()


def test_the_target_of_a_guide_is_outlined_in_white() -> None:
    target = np.zeros((10, 10), dtype=bool)
    target[3:7, 3:7] = True
    picture = guide_picture(np.zeros((10, 10)), np.zeros((5, 5)), (100, 100), limits=(0.0, 1.0), target=target)
    assert picture[30, 50].tolist() == [255, 255, 255]
    assert picture[50, 50].tolist() == picture[5, 5].tolist()


def test_errors_have_the_colours_of_the_reports_legend() -> None:
    truth, prediction = np.array([[0, 1, 1, 2, 0]]), np.array([[0, 1, 0, 1, 1]])
    picture = errors_picture(None, prediction, truth, (1, 5))[0]
    assert [tuple(pixel) for pixel in picture[1:].tolist()] == [
        TRUE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS, FALSE_POSITIVE,
    ]  # fmt: skip
