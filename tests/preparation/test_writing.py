"""Which cases the contact sheet shows."""

import pytest

from guidino_cli.preparation.writing import _share_tiles


@pytest.mark.parametrize(
    ("sizes", "tiles"),
    [
        # Four each, and of the other twelve 8.4, 0.6 and 3.
        ({"train": 700, "val": 50, "test": 250}, {"train": 12, "val": 5, "test": 7}),
        ({"train": 900, "val": 100, "test": 0}, {"train": 17, "val": 7, "test": 0}),
        ({"train": 14, "val": 2, "test": 4}, {"train": 14, "val": 2, "test": 4}),
        ({"train": 100, "val": 1, "test": 1}, {"train": 22, "val": 1, "test": 1}),
        ({"train": 0, "val": 0, "test": 0}, {"train": 0, "val": 0, "test": 0}),
    ],
)
def test_every_part_has_a_share_of_the_tiles(sizes: dict[str, int], tiles: dict[str, int]) -> None:
    assert _share_tiles(sizes, 24) == tiles
