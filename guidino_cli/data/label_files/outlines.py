"""Outlines of a mask along the borders of its pixels, which filled again give the same mask."""

from collections.abc import Sequence

import numpy as np

_RIGHT_TURNS = {(1, 0): (0, 1), (0, 1): (-1, 0), (-1, 0): (0, -1), (0, -1): (1, 0)}
"""Directions (x, y) with y down, and the one a quarter clockwise."""


def trace_outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed outlines (N, 2) of a mask, x and y of pixel corners, first point not repeated.

    Pixels are inside to the right of the way along an outline: outer ones go clockwise, with y down, and holes the
    other way. Pixels that touch at a corner only have outlines of their own. The outlines start at their topmost
    corners and are sorted by them, so that an outer one comes before its holes.

    Args:
        mask: (H, W) booleans.
    """
    padded = np.pad(np.asarray(mask, dtype=bool), 1)
    inside = padded[1:-1, 1:-1]
    # (x, y) where a side of a pixel starts, and its direction, clockwise around the pixel.
    sides = (
        (inside & ~padded[:-2, 1:-1], (0, 0), (1, 0)),
        (inside & ~padded[1:-1, 2:], (1, 0), (0, 1)),
        (inside & ~padded[2:, 1:-1], (1, 1), (-1, 0)),
        (inside & ~padded[1:-1, :-2], (0, 1), (0, -1)),
    )
    leaving: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for is_border, (x, y), direction in sides:
        rows, columns = np.nonzero(is_border)
        for start in zip((columns + x).tolist(), (rows + y).tolist(), strict=True):
            leaving.setdefault(start, []).append(direction)
    outlines = []
    for start in sorted(leaving, key=lambda point: (point[1], point[0])):
        while leaving[start]:
            outlines.append(_walk(start, leaving))
    return outlines


def _walk(start: tuple[int, int], leaving: dict[tuple[int, int], list[tuple[int, int]]]) -> np.ndarray:
    """Follow the sides from a corner until they close, and take them away."""
    direction = leaving[start].pop(0)
    first, corners, point = direction, [start], (start[0] + direction[0], start[1] + direction[1])
    while point != start:
        choices = leaving[point]
        # Where two pixels touch at a corner, the way stays with its pixel.
        turned = _RIGHT_TURNS[direction] if _RIGHT_TURNS[direction] in choices else choices[0]
        choices.remove(turned)
        if turned != direction:
            corners.append(point)
        direction, point = turned, (point[0] + turned[0], point[1] + turned[1])
    return np.array(corners if direction != first else corners[1:], dtype=np.int64)


def join_holes(outer: np.ndarray, holes: Sequence[np.ndarray]) -> np.ndarray:
    """One outline of a region with holes, for formats that have none: a way to each hole and back along it.

    The way has no width: it is crossed twice and changes no pixel where inside and outside alternate.
    """
    joined = outer
    for hole in holes:
        near = int(np.abs(joined - hole[0]).sum(axis=1).argmin())
        joined = np.concatenate([joined[: near + 1], hole, hole[:1], joined[near:]])
    return joined
