"""Fill polygons with the pixels that pycocotools gives them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

_SCALE = 5
"""Steps a pixel along the boundary, as pycocotools takes them: columns are cut in the middle of the third step."""
_MAX_STEPS = 1 << 22


class Patch(NamedTuple):
    """Part of a mask: booleans (h, w) and where its first pixel lies; empty if no pixel is inside."""

    row: int
    column: int
    inside: np.ndarray

    def paste(self, mask: np.ndarray, value: int | bool = True) -> None:
        """Set the pixels that are inside in a mask (H, W)."""
        rows, columns = self.inside.shape
        mask[self.row : self.row + rows, self.column : self.column + columns][self.inside] = value


def fill_polygon(points: np.ndarray, size_hw: tuple[int, int]) -> Patch:
    """Pixels of a polygon, equal to those of pycocotools (`maskApi.c`, `rleFrPoly`).

    The boundary is walked on a grid of a fifth of a pixel; in each column the middle is cut, and pixels between an odd
    and an even crossing are inside. What reaches beyond the image is clipped.

    Args:
        points: (N, 2) x and y in pixels, N >= 3; pixel (r, c) covers x in [c, c + 1) and y in [r, r + 1).
        size_hw: Height and width of the image.
    """
    if points.size and (points.min() < -max(size_hw) or points.max() > 2 * max(size_hw)):
        # Far ends would take steps without number; near ends keep their exact place.
        points = _clip_far(points, size_hw)
    found = list(_cut_columns(points, size_hw)) if len(points) else []
    rows = np.concatenate([np.empty(0, dtype=np.int64), *(row for row, _ in found)])
    columns = np.concatenate([np.empty(0, dtype=np.int64), *(column for _, column in found)])
    if not rows.size or rows.min() == rows.max():
        return Patch(0, 0, np.zeros((0, 0), dtype=bool))
    top, left = int(rows.min()), int(columns.min())
    crossings = np.zeros((int(rows.max()) - top + 1, int(columns.max()) - left + 1), dtype=np.int32)
    np.add.at(crossings, (rows - top, columns - left), 1)
    return Patch(top, left, np.cumsum(crossings, axis=0)[:-1] % 2 == 1)


def fill_rings(rings: Sequence[np.ndarray], size_hw: tuple[int, int]) -> Patch:
    """Pixels of the first ring that are in none of the others, which are its holes."""
    outer = fill_polygon(rings[0], size_hw)
    if len(rings) == 1 or not outer.inside.size:
        return outer
    holes = np.zeros(size_hw, dtype=bool)
    for ring in rings[1:]:
        fill_polygon(ring, size_hw).paste(holes)
    rows, columns = outer.inside.shape
    cut = holes[outer.row : outer.row + rows, outer.column : outer.column + columns]
    return outer._replace(inside=outer.inside & ~cut)


def _cut_columns(points: np.ndarray, size_hw: tuple[int, int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows from which on a crossing counts, and its columns, for some edges at a time."""
    height, width = size_hw
    # Conversion to int drops the fraction towards zero there, too.
    ends = np.trunc(_SCALE * points + 0.5).astype(np.int64)
    starts, stops = ends, np.roll(ends, -1, axis=0)
    steps = np.abs(stops - starts).max(axis=1)
    starts, stops, steps = starts[steps > 0], stops[steps > 0], steps[steps > 0]
    total = np.cumsum(steps + 1)
    first = 0
    while first < len(steps):
        before = total[first - 1] if first else 0
        last = max(int(np.searchsorted(total, before + _MAX_STEPS, side="right")), first + 1)
        u, v, is_same_edge = _walk(starts[first:last], stops[first:last], steps[first:last])
        first = last
        crossed = is_same_edge & (u[1:] != u[:-1])
        low_u, low_v = np.minimum(u[1:], u[:-1])[crossed], np.minimum(v[1:], v[:-1])[crossed]
        column, rest = np.divmod(low_u - _SCALE // 2, _SCALE)
        used = (rest == 0) & (column >= 0) & (column < width)
        row = np.ceil(np.clip((low_v[used] + 0.5) / _SCALE - 0.5, 0, height)).astype(np.int64)
        yield row, column[used]


def _walk(starts: np.ndarray, stops: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points along edges in steps of one along the longer axis: x, y, and whether a point follows one of its edge."""
    delta = stops - starts
    is_wide = np.abs(delta[:, 0]) >= np.abs(delta[:, 1])
    main, other = np.where(is_wide, 0, 1), np.where(is_wide, 1, 0)
    edges = np.arange(len(steps))
    is_back = delta[edges, main] < 0
    lower = np.where(is_back[:, None], stops, starts)
    # Slopes are the same in both directions: rounding then is, too.
    slope = delta[edges, other] / delta[edges, main]
    edge = np.repeat(edges, steps + 1)
    offset = np.arange(len(edge)) - np.repeat(np.cumsum(steps + 1) - (steps + 1), steps + 1)
    distance = np.where(is_back[edge], steps[edge] - offset, offset)
    along = lower[edges, main][edge] + distance
    across = np.trunc(lower[edges, other][edge] + slope[edge] * distance + 0.5).astype(np.int64)
    wide = is_wide[edge]
    return np.where(wide, along, across), np.where(wide, across, along), edge[1:] == edge[:-1]


def _clip_far(points: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Clip a polygon to one image size around the image (Sutherland and Hodgman 1974, 10.1145/360767.360802)."""
    margin = max(size_hw)
    for axis, length in ((0, size_hw[1]), (1, size_hw[0])):
        for sign, limit in ((1.0, length + margin), (-1.0, margin)):
            points = _clip_side(points, axis, sign, float(limit))
    return points


def _clip_side(points: np.ndarray, axis: int, sign: float, limit: float) -> np.ndarray:
    """The part of a polygon where `sign` times a coordinate is at most `limit`."""
    kept = []
    for start, stop in zip(points, np.roll(points, -1, axis=0), strict=True):
        begins, ends = sign * start[axis] <= limit, sign * stop[axis] <= limit
        if begins:
            kept.append(start)
        if begins != ends:
            share = (sign * limit - start[axis]) / (stop[axis] - start[axis])
            kept.append(start + share * (stop - start))
    return np.array(kept).reshape(-1, 2)
