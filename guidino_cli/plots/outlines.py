"""Classes as coloured outlines on an image, with a legend below it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

# Okabe and Ito's seven for colour-blind readers, brightest first, because they must stand out from tissue. After them,
# of the palettes of Trubetskoy, Kelly and Tol, those that are farthest from all before, for normal, deuteranopic and
# protanopic sight (Machado's simulation).
OUTLINE_COLOURS = (
    "#56b4e9", "#f0e442", "#e69f00", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#fffac8", "#654522", "#4363d8",
    "#e6194b", "#882255", "#fabed4", "#c2b280", "#999933", "#875692", "#42d4f4", "#ddcc77", "#9a6324", "#f3c300",
)  # fmt: skip


def outline_colour(index: int) -> str:
    """Colour of a class's outline as `#rrggbb`; index 1 is the first foreground class, and 21 has the colour of 1."""
    return OUTLINE_COLOURS[(index - 1) % len(OUTLINE_COLOURS)]


def outline_width(size_hw: tuple[int, int]) -> int:
    """Width in pixels of outlines that stay visible when the image is fitted to a screen: 9 at 1920 x 1080."""
    return max(1, round(min(size_hw) / 120))


def draw_outlines(
    image: np.ndarray, labels: np.ndarray, *, width: int | None = None, framed: bool = False
) -> np.ndarray:
    """Copy an image with every class but 0 outlined along its inner edge, on a darkened rim.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W) class indices.
        width: Line width in pixels; by default `outline_width`.
        framed: Draw along the edge of the image too, so that a mask that fills it is visible.

    Returns:
        (H, W, 3) uint8.
    """
    width = width or outline_width((labels.shape[0], labels.shape[1]))
    result = image.copy()
    rim = _border(labels == 0, width=max(1, width // 2))
    result[rim] = result[rim] // 3
    for index in np.unique(labels[labels > 0]):
        result[_border(labels == index, width=width, framed=framed)] = _rgb(int(index))
    return result


def draw_border(image: np.ndarray, region: np.ndarray, colour: tuple[int, int, int], *, width: int) -> np.ndarray:
    """Copy an image (H, W, 3) uint8 with a region (H, W) outlined along its inner edge, on a darkened rim.

    The edge of the image counts, too, so that a region that fills it is visible.
    """
    result, region = image.copy(), region.astype(bool)
    rim = _border(~region, width=max(1, width // 2))
    result[rim] = result[rim] // 3
    result[_border(region, width=width, framed=True)] = colour
    return result


def add_legend_below(image: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """The image with a strip below it that names the colour of each foreground class.

    Args:
        image: (H, W, 3) uint8; keeps its place and its pixels.
        classes: Class names, the background first.

    Returns:
        (H + strip, W, 3) uint8.
    """
    from PIL import Image, ImageDraw

    from guidino_cli.plots.text import replace_missing

    height, width = image.shape[:2]
    size = min(max(11, round(min(height, width) / 32)), 200)
    font, known = _font(size)
    line, gap = 2 * size, size // 2
    places, left, row = [], gap, 0
    for index, name in enumerate(classes[1:], start=1):
        text = replace_missing(name, known).replace("\n", " ")
        length = line + gap + int(font.getlength(text))
        if left > gap and left + length + gap > width:
            left, row = gap, row + 1
        places.append((index, text, left, row))
        left += length + 2 * gap
    row_height = round(1.5 * size)
    strip = Image.new("RGB", (width, (row + 1) * row_height + gap), "white")
    draw = ImageDraw.Draw(strip)
    for index, text, start, number in places:
        middle = gap // 2 + number * row_height + row_height // 2
        draw.rectangle(
            (start, middle - size // 4, start + line, middle + size // 4), fill=_rgb(index), outline="#444444"
        )
        draw.text((start + line + gap, middle), text, fill="#1a1a1a", font=font, anchor="lm")
    return np.concatenate([image, np.asarray(strip)])


@lru_cache
def _font(size: int) -> tuple[Any, frozenset[int]]:
    """matplotlib's default font at a size in pixels, and the codes of its characters."""
    from matplotlib.font_manager import findfont, get_font
    from PIL import ImageFont

    path = findfont("DejaVu Sans")
    return ImageFont.truetype(path, size), frozenset(get_font(path).get_charmap())


def _rgb(index: int) -> tuple[int, int, int]:
    colour = outline_colour(index)
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return red, green, blue


def _border(region: np.ndarray, *, width: int, framed: bool = False) -> np.ndarray:
    """Pixels of a region within `width` pixels of its edge; with `framed` the edge of the image counts too."""
    inside = region.copy()
    for _ in range(width):
        padded = np.pad(inside, 1) if framed else np.pad(inside, 1, mode="edge")
        inside = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region & ~inside
