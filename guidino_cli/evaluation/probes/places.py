"""Where the tiles of a slide lie, by their names: CLAM and others end them with the column and row of their corner."""

import re
from collections.abc import Sequence

import numpy as np

_NAME = re.compile(r"(?:^|\D)(\d+)[_x,-](\d+)\D*$")
_MAX_CELLS = 40_000


def grid_places(stems: Sequence[str]) -> list[tuple[int, int]] | None:
    """Column and row of each tile in the grid of a slide, from 0; None where the names do not tell.

    The names end with x and y, such as `slide7_2048_512`, in steps of the size of a tile.

    Args:
        stems: Names of the files without extension.
    """
    found = [_NAME.search(stem) for stem in stems]
    if len(stems) < 2 or any(match is None for match in found):
        return None
    corners = np.array([[int(match[1]), int(match[2])] for match in found if match is not None])
    if len(np.unique(corners, axis=0)) < len(corners):
        return None
    offsets = corners - corners.min(axis=0)
    steps = [np.gcd.reduce(column) or 1 for column in offsets.T]
    places = offsets // np.array(steps)
    columns, rows = (places.max(axis=0) + 1).tolist()
    # A few numbers that only look like corners would make a huge, empty grid.
    if columns * rows > min(_MAX_CELLS, 50 * len(stems)):
        return None
    return [(int(column), int(row)) for column, row in places]
