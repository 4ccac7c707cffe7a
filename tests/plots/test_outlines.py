"""Outlines of masks in an image's own pixels, their colours and their legend."""

from itertools import combinations

import numpy as np
import pytest
from skimage.color import rgb2lab

from guidino_cli.plots.outlines import OUTLINE_COLOURS, add_legend_below, draw_outlines, outline_colour

# Sight without the middle or the long cones, on linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
SIGHTS = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
}


def rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)])


def test_a_framed_mask_that_fills_the_picture_does_not_look_like_none() -> None:
    image = np.full((40, 40, 3), 100, np.uint8)
    drawn = draw_outlines(image, np.ones((40, 40), np.uint8), width=1, framed=True)
    changed = (drawn != image).any(axis=2)
    assert changed[0].all()
    assert changed[:, -1].all()
    assert not changed[1:-1, 1:-1].any()


@pytest.mark.parametrize(
    # A difference of 2.3 in CIELAB is just noticeable.
    ("sight", "count", "least"),
    [("normal", 20, 18), ("deuteranopia", 20, 10), ("protanopia", 20, 10), ("deuteranopia", 7, 17)],
)
def test_twenty_classes_have_colours_that_differ_for_everyone(sight: str, count: int, least: float) -> None:
    values = np.array([rgb(colour) for colour in OUTLINE_COLOURS[:count]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = (linear @ SIGHTS[sight].T).clip(0, 1)
    encoded = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    colours = rgb2lab(encoded[None])[0]
    assert len(colours) == count
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(colours, 2)) > least


def test_an_outline_is_a_hundred_and_twentieth_of_the_shorter_side() -> None:
    labels = np.zeros((1080, 1920), np.uint8)
    labels[200:800, 300:1500] = 1
    drawn = draw_outlines(np.zeros((1080, 1920, 3), np.uint8), labels)
    line = (drawn[500] == rgb(outline_colour(1))).all(axis=1)
    assert np.flatnonzero(line).tolist() == [*range(300, 309), *range(1491, 1500)]


def test_a_legend_below_keeps_the_image_and_has_every_colour() -> None:
    image = np.full((60, 90, 3), 7, np.uint8)
    classes = ["background", *(f"class {number}" for number in range(1, 21))]
    drawn = add_legend_below(image, classes)
    assert drawn.shape[1:] == (90, 3)
    assert np.array_equal(drawn[:60], image)
    found = {tuple(colour) for colour in np.unique(drawn[60:].reshape(-1, 3), axis=0).tolist()}
    assert {tuple(rgb(colour).tolist()) for colour in OUTLINE_COLOURS} <= found
