"""Regions with categories, as label files hold them, and drawing them into a mask of classes."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from guidino_cli.data.label_files.polygons import Patch, fill_rings
from guidino_cli.data.label_files.run_lengths import decode_brush, decode_runs, text_to_runs
from guidino_cli.data.limits import max_pixels, require_pixels
from guidino_cli.errors import DataError
from guidino_cli.progress import join_first, pluralize
from guidino_cli.types import width_by_height

Rings = tuple[np.ndarray, ...]
"""Outer ring and holes of a polygon, each (N, 2) x and y."""


@dataclass(frozen=True)
class Bitmap:
    """A mask of a region, decoded when it is drawn.

    Attributes:
        data: Run lengths down columns or along rows; the text of a compressed RLE of COCO; the bytes of a brush of
            Label Studio; or those of a PNG.
        kind: Which of them it is.
        size_hw: Height and width of the mask.
        corner: Row and column of its first pixel; None if it must have the size of the image.
    """

    data: Sequence[int] | str | bytes
    kind: Literal["columns", "rows", "text", "brush", "png"]
    size_hw: tuple[int, int]
    corner: tuple[int, int] | None = None

    def decode(self) -> np.ndarray:
        """Booleans (h, w).

        Raises:
            ValueError: Damaged, or of another size.
        """
        if isinstance(self.data, str):
            return decode_runs(text_to_runs(self.data), self.size_hw)
        if isinstance(self.data, bytes):
            return decode_brush(self.data, self.size_hw) if self.kind == "brush" else _decode_png(self.data)
        return decode_runs(self.data, self.size_hw, by_rows=self.kind == "rows")


@dataclass(frozen=True)
class Region:
    """One annotation.

    Attributes:
        category: Name of its category.
        polygons: Parts, of which it is the union; in pixels, or in shares of width and height if `is_relative`.
        bitmap: Mask of it; None if it is polygons.
        is_relative: Whether coordinates are shares of width and height.
    """

    category: str
    polygons: tuple[Rings, ...] = ()
    bitmap: Bitmap | None = None
    is_relative: bool = False


@dataclass(frozen=True)
class Drawing:
    """The regions of one image, in the order in which they are drawn.

    Attributes:
        source: The label file.
        place: Where they are in it, such as "image a.png".
        regions: Later ones cover earlier ones.
        size_hw: Height and width of the image by the label file; None if it does not tell.
        problem: Why they cannot be drawn, "" if they can.
        without_outline: Categories of annotations that mark an object by a box or the like, one for each.
    """

    source: Path
    place: str
    regions: tuple[Region, ...]
    size_hw: tuple[int, int] | None = None
    problem: str = ""
    without_outline: tuple[str, ...] = ()


class Drawn(NamedTuple):
    """A drawing as a mask."""

    labels: np.ndarray
    """(H, W) uint8 class indices."""
    clipped: int
    """Regions that reach beyond the image by a pixel or more, and were clipped."""
    overlapped: int
    """Pixels of a class that a later region of another class covers."""
    without_outline: int
    """Objects of a class that are not in the mask, because they have no outline."""


def make_ring(numbers: Sequence[object]) -> np.ndarray:
    """Ring (N, 2) from x, y, x, y, ...; a last point equal to the first is dropped.

    Raises:
        ValueError: No numbers, an odd number of them, one that is not finite, or fewer than three points.
    """
    if not all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers):
        raise ValueError("has a polygon with coordinates that are no numbers")
    if len(numbers) % 2:
        raise ValueError(f"has a polygon of {len(numbers)} numbers, expected pairs of x and y")
    ring = np.array(numbers, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(ring).all():
        raise ValueError("has a polygon with a coordinate that is not finite (NaN or infinite)")
    if len(ring) > 3 and (ring[0] == ring[-1]).all():
        ring = ring[:-1]
    if len(ring) < 3:
        raise ValueError(f"has a polygon of {len(ring)} point{'s' * (len(ring) != 1)}, expected at least 3")
    return ring


def make_ring_of_points(points: object) -> np.ndarray:
    """Ring (N, 2) from [[x, y], ...]; errors as of `make_ring`."""
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) >= 2 for point in points):
        raise ValueError("has a polygon that is no list of points [x, y]")
    return make_ring([number for point in points for number in point[:2]])


def require_shares(ring: np.ndarray) -> np.ndarray:
    """The ring, if its coordinates can be shares of width and height; up to one image beside the image may be meant.

    Raises:
        ValueError: They are farther away, such as pixels.
    """
    low, high = float(ring.min()), float(ring.max())
    if low < -1 or high > 2:
        raise ValueError(
            f"has a polygon with coordinates from {low:g} to {high:g}, expected shares of width and height, 0 to 1; "
            "pixels?"
        )
    return ring


def draw_regions(drawing: Drawing, size_hw: tuple[int, int], indices: Mapping[str, int]) -> Drawn:
    """Draw the regions of an image, later ones over earlier ones.

    Args:
        drawing: Its regions.
        size_hw: Height and width of the image.
        indices: Category -> class index; regions of other categories are left out.

    Raises:
        DataError: A problem of the drawing, a mask that is damaged or of another size, or objects of which none would
            be in the mask, because they have no outline or cover no pixel.
    """
    if drawing.problem:
        raise DataError(f"{drawing.source}: {drawing.place} {drawing.problem}")
    try:
        drawn = _draw(drawing.regions, size_hw, indices)
        boxes = [category for category in drawing.without_outline if indices.get(category)]
        if boxes and not any(indices.get(region.category) for region in drawing.regions):
            kinds = join_first(list(dict.fromkeys(boxes)))
            found = f"has {pluralize(len(boxes), 'object')} of {kinds} without an outline (a box?) and no region"
            raise ValueError(f"{found}, which would be an empty mask; outline what is there")
        return drawn._replace(without_outline=len(boxes))
    except ValueError as error:
        raise DataError(f"{drawing.source}: {drawing.place} {error}") from error


def _draw(regions: Sequence[Region], size_hw: tuple[int, int], indices: Mapping[str, int]) -> Drawn:
    labels = np.zeros(size_hw, dtype=np.uint8)
    clipped = overlapped = drawn = 0
    for region in regions:
        if region.category not in indices:
            continue
        index = indices[region.category]
        _require_inside(region, size_hw)
        clipped += _reaches_out(region, size_hw)
        patches = _fill(region, size_hw)
        # Where parts of one region overlap they have one index.
        for patch in patches:
            rows, columns = patch.inside.shape
            below = labels[patch.row : patch.row + rows, patch.column : patch.column + columns]
            covered = below[patch.inside]
            drawn += covered.size if index else 0
            overlapped += int(np.count_nonzero((covered != 0) & (covered != index)))
            below[patch.inside] = index
    wanted = [region for region in regions if indices.get(region.category)]
    if wanted and not drawn:
        _refuse_invisible(wanted, size_hw)
    return Drawn(labels, clipped, overlapped, 0)


def _refuse_invisible(regions: Sequence[Region], size_hw: tuple[int, int]) -> None:
    """`ValueError` for regions none of which covers a pixel: the mask would be empty in spite of them."""
    kinds = join_first(list(dict.fromkeys(region.category for region in regions)))
    rings = [outer for region in regions if not region.is_relative for outer, *_ in region.polygons]
    are_shares = rings and all(ring.min() >= 0 and ring.max() <= 1 for ring in rings)
    hint = "; coordinates from 0 to 1, expected pixels" if are_shares else ""
    raise ValueError(
        f"has {pluralize(len(regions), 'region')} of {kinds}, but none covers a pixel of the image, "
        f"{width_by_height(size_hw)}{hint}"
    )


def _fill(region: Region, size_hw: tuple[int, int]) -> list[Patch]:
    height, width = size_hw
    if region.bitmap is not None:
        return [_place_bitmap(region.bitmap, size_hw)]
    scale = np.array([width, height]) if region.is_relative else 1.0
    return [fill_rings([ring * scale for ring in rings], size_hw) for rings in region.polygons]


def _place_bitmap(bitmap: Bitmap, size_hw: tuple[int, int]) -> Patch:
    if bitmap.corner is None and bitmap.size_hw != size_hw:
        found = width_by_height(bitmap.size_hw)
        raise ValueError(f"has a mask of {found}, the image is {width_by_height(size_hw)}")
    if math.prod(bitmap.size_hw) > max_pixels():
        raise ValueError(f"claims a mask of {width_by_height(bitmap.size_hw)}, more than GUIDINO_MAX_PIXELS allows")
    inside = bitmap.decode()
    if inside.shape != bitmap.size_hw:
        found, expected = width_by_height(inside.shape), width_by_height(bitmap.size_hw)
        raise ValueError(f"has a mask of {found}, its points span {expected}")
    first_row, first_column = bitmap.corner or (0, 0)
    top, left = max(-first_row, 0), max(-first_column, 0)
    row, column = first_row + top, first_column + left
    return Patch(row, column, inside[top:, left:][: max(size_hw[0] - row, 0), : max(size_hw[1] - column, 0)])


def _decode_png(data: bytes) -> np.ndarray:
    """Pixels of a small PNG that are not 0."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            require_pixels(Path("mask"), (image.height, image.width), advice="")
            return np.asarray(image.convert("L")) > 0
    except (OSError, SyntaxError, DataError) as error:
        raise ValueError(f"has a mask that is no PNG ({type(error).__name__})") from error


def _require_inside(region: Region, size_hw: tuple[int, int]) -> None:
    """`ValueError` for a region of which no part lies within a pixel of the image: such as one of a larger picture."""
    height, width = size_hw
    if region.bitmap is not None and region.bitmap.corner is not None:
        (top, left), (rows, columns) = region.bitmap.corner, region.bitmap.size_hw
        points = np.array([(left, top), (left + columns, top + rows)])
    elif region.polygons:
        scale = np.array([width, height]) if region.is_relative else 1.0
        points = np.concatenate([outer * scale for outer, *_ in region.polygons])
    else:
        return
    low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    if high[0] <= -1 or high[1] <= -1 or low[0] >= width + 1 or low[1] >= height + 1:
        raise ValueError(
            f"has a region of {region.category} wholly outside, x {low[0]:g} to {high[0]:g} and y {low[1]:g} to "
            f"{high[1]:g}, the image is {width_by_height(size_hw)}; is it of another resolution?"
        )


def _reaches_out(region: Region, size_hw: tuple[int, int]) -> bool:
    """Whether a region lies a pixel or more outside the image; drawing tools often end half a pixel outside."""
    height, width = size_hw
    if region.bitmap is not None:
        if region.bitmap.corner is None:
            return False
        (row, column), (rows, columns) = region.bitmap.corner, region.bitmap.size_hw
        return row < 0 or column < 0 or row + rows > height or column + columns > width
    scale = np.array([width, height]) if region.is_relative else 1.0
    ends = [outer * scale for outer, *_ in region.polygons]
    return any(points.min() <= -1 or bool((points >= np.array([width, height]) + 1).any()) for points in ends)
