"""Outlines of masks in an image's own pixels."""

import numpy as np

from guidino_cli.plots.panels import draw_outlines


def test_a_framed_mask_that_fills_the_picture_does_not_look_like_none() -> None:
    image = np.full((40, 40, 3), 100, np.uint8)
    drawn = draw_outlines(image, np.ones((40, 40), np.uint8), width=1, framed=True)
    changed = (drawn != image).any(axis=2)
    assert changed[0].all()
    assert changed[:, -1].all()
    assert not changed[1:-1, 1:-1].any()
