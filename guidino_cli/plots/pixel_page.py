"""A page made of pixels, as a figure on which text can be written in the page's own coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pixel_page(page: np.ndarray, *, dpi: int) -> tuple[Figure, Axes]:
    """A figure that shows a page (H, W, 3) pixel by pixel, and its frame, x to the right and y downwards from 0.

    One picture in one frame: a frame for each tile of a page takes seconds to lay out.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = page.shape[:2]
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi)
    FigureCanvasAgg(figure)
    frame = figure.add_axes((0, 0, 1, 1))
    frame.set(xlim=(0, width), ylim=(height, 0))
    frame.set_axis_off()
    frame.imshow(page, interpolation="none", extent=(0, width, height, 0), aspect="auto")
    return figure, frame
