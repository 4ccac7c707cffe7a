"""Figures of reports: overlays, histograms, paired differences."""

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np

from guidino_cli.plots.report import (
    FALSE_NEGATIVE,
    FALSE_POSITIVE,
    TRUE_POSITIVE,
    WRONG_CLASS,
    PairedDifferences,
    downsample,
    draw_overlay,
    histogram_svg,
    plot_paired_differences,
)


def _texts(values: list[float]) -> list[str]:
    panel = PairedDifferences("a", "b", "Dice", np.array(values), True, float(np.mean(values)), (0.0, 0.0))
    return [text.get_text() for text in plot_paired_differences([panel]).axes[0].texts]


def test_tiny_differences_get_a_note() -> None:
    assert _texts([0.0001, -0.0003]) == ["no difference above 0.0003"]


def test_visible_differences_get_no_note() -> None:
    assert _texts([0.2, -0.1]) == []


def test_each_outcome_of_a_pixel_has_its_colour() -> None:
    truth, prediction = np.array([[0, 1, 1, 2, 0]]), np.array([[0, 1, 0, 1, 1]])
    picture = draw_overlay(None, prediction, truth)[0].tolist()
    assert picture[0] == [24, 24, 24]
    assert [tuple(pixel) for pixel in picture[1:]] == [TRUE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS, FALSE_POSITIVE]


def test_regions_are_translucent_inside_and_opaque_at_the_edge() -> None:
    image, mask = np.full((9, 9, 3), 100, dtype=np.uint8), np.zeros((9, 9), dtype=int)
    mask[2:7, 2:7] = 1
    picture = draw_overlay(image, mask, mask)
    assert tuple(picture[2, 2]) == TRUE_POSITIVE
    assert picture[4, 4].tolist() == [163, 158, 85]  # 55 % of 100 and 45 % of (240, 228, 66)
    assert picture[0, 0].tolist() == [100, 100, 100]


def test_the_colours_differ_in_lightness_too() -> None:
    colours = (TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS)
    grey = sorted(0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in colours)
    assert min(after - before for before, after in pairwise(grey)) > 5


def test_a_large_image_is_downsampled_by_averaging() -> None:
    picture = np.zeros((1000, 500, 3), dtype=np.uint8)
    picture[::2] = 200
    small = downsample(picture, 250)
    assert small.shape == (250, 125, 3)
    assert np.unique(small).tolist() == [100]


def test_a_histogram_has_a_bar_per_bin_and_an_escaped_title() -> None:
    svg = histogram_svg([0.1, 0.1, 0.9], title="a<b", is_share=True, mean=0.4, median=0.1)
    root = ElementTree.fromstring(svg)
    heights = [float(bar.get("height") or 0) for bar in root.iter("rect")]
    assert len(heights) == 20
    assert sorted(height for height in heights if height) == [49.0, 98.0]


def test_a_histogram_of_no_finite_value_is_empty() -> None:
    assert histogram_svg([float("nan")], title="a", is_share=True, mean=float("nan"), median=float("nan")) == ""
