"""A colour bar under a panel, and the values it tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from guidino_cli.plots.colours import GUIDE_COLOURS, MID_GREY, UNIT, Limits, blended
from guidino_cli.plots.panels import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def bar_below(
    axes: Axes,
    label: str,
    *,
    limits: Limits = UNIT,
    marks: Sequence[float] = (),
    extend: str = "neither",
    over_image: bool = False,
    colours: str = GUIDE_COLOURS,
) -> None:
    """A colour bar under a panel.

    Args:
        axes: The panel.
        label: What the values are.
        limits: Values at its ends.
        marks: Values to point at, such as the smallest and largest that occur.
        extend: "min" where values below the first limit occur and share its colour.
        over_image: The colours are those of `guide_over`, as they look over mid-grey.
        colours: Name of a colour map.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    figure: Any = axes.figure
    box = axes.get_position()
    height_in = figure.get_size_inches()[1]
    place = figure.add_axes((box.x0, box.y0 - 0.21 / height_in, box.width, 0.09 / height_in))
    pure = colormaps[colours](np.linspace(0, 1, 256))[:, :3]
    scale = ListedColormap(blended(pure, MID_GREY) if over_image else pure)
    ticks = bar_ticks(limits)
    drawn = ScalarMappable(Normalize(*limits), scale)
    bar = figure.colorbar(drawn, cax=place, orientation="horizontal", ticks=ticks, extend=extend, format="%g")
    bar.outline.set_linewidth(0.4)
    place.tick_params(labelsize=7.5, length=2, pad=1.5, width=0.5, colors=INK)
    # The ends' numbers stay under their bar, not under a neighbour's.
    numbers = place.get_xticklabels()
    numbers[0].set_horizontalalignment("left")
    numbers[-1].set_horizontalalignment("right")
    place.set_xlabel(label, fontsize=7.5, color=FAINT, labelpad=1)
    for mark in marks:
        place.plot(
            [mark], [1.0], marker="v", markersize=3.5, color=INK, clip_on=False, transform=place.get_xaxis_transform()
        )


def bar_ticks(limits: Limits) -> list[float]:
    """The ends of a colour bar, and round values between them that leave room for the ends' numbers."""
    from matplotlib.ticker import MaxNLocator

    low, high = limits
    room = 0.16 * (high - low)
    between = [float(f"{value:.6g}") for value in MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high)]
    return [
        float(f"{low:.2g}"),
        *(value for value in between if low + room < value < high - room),
        float(f"{high:.2g}"),
    ]
