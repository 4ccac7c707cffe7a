"""The figure of a backbone's tokens."""

import numpy as np

from guidino_cli.plots.tokens import backbone_figure
from guidino_cli.plots.views import TokenView

IMAGE = np.full((60, 80, 3), 120, dtype=np.uint8)
TOKENS = TokenView(np.zeros((3, 4, 3)), np.ones((3, 4)), (1, 2), 0.456)


def test_the_frame_surrounds_the_patch_in_every_panel() -> None:
    figure = backbone_figure(IMAGE, TOKENS, name="a", chosen="salient patch")
    for axes in figure.axes[:3]:
        box = axes.patches[-1].get_bbox()
        # The cell of 20 x 20 pixels at row 1, column 2 with half a cell around it.
        assert (box.x0, box.y0, box.x1, box.y1) == (29.5, 9.5, 69.5, 49.5)


def test_tokens_are_drawn_over_the_whole_image() -> None:
    figure = backbone_figure(IMAGE, TOKENS, name="a", chosen="patch at 45,25")
    assert figure.axes[1].images[0].get_extent() == [-0.5, 79.5, 59.5, -0.5]
    figure.canvas.draw()
    assert "46% of the variance, 4 x 3 tokens" in [text.get_text() for text in figure.axes[1].texts]


def test_the_frame_of_a_patch_at_the_border_stays_within_its_panel() -> None:
    corner = TokenView(np.zeros((3, 4, 3)), np.ones((3, 4)), (2, 3), 0.5)
    box = backbone_figure(IMAGE, corner, name="a", chosen="").axes[1].patches[-1].get_bbox()
    assert (box.x0, box.y0, box.x1, box.y1) == (49.5, 29.5, 79.5, 59.5)
