"""Background around label volumes whose empty slices were left out."""

import numpy as np
import pytest

from guidino_cli.data.volumes.covering import extend_to_cover
from guidino_cli.types import Geometry


def geometry(shape: tuple[int, ...], origin: tuple[float, float, float] = (0, 0, 0), **spacing: float) -> Geometry:
    affine = np.diag([1.0, 1.0, spacing.get("z", 2.0), 1.0])
    affine[:3, 3] = origin
    return Geometry("a", shape, (1.0, 1.0, spacing.get("z", 2.0)), "mm", affine)


def test_background_is_added_on_both_sides() -> None:
    labels = np.ones((2, 3, 1), dtype=np.uint8)
    extended, found = extend_to_cover(labels, geometry((2, 3, 1), (0, 0, 4)), geometry((2, 3, 5)))
    assert extended.any(axis=(0, 1)).tolist() == [False, False, True, False, False]
    assert found.shape == (2, 3, 5)
    assert found.affine is not None
    assert found.affine[:3, 3].tolist() == [0, 0, 0]


def test_the_other_grid_may_be_permuted_and_flipped() -> None:
    labels = np.ones((2, 3, 1), dtype=np.uint8)
    # Axes Z (downwards), X, Y of the same voxels: five slices, the first one at z = 8.
    turned = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [-2, 0, 0, 8], [0, 0, 0, 1.0]])
    other = Geometry("b", (5, 2, 3), (2.0, 1.0, 1.0), "mm", turned)
    extended, _ = extend_to_cover(labels, geometry((2, 3, 1), (0, 0, 4)), other)
    assert extended.any(axis=(0, 1)).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize(
    "other",
    [
        geometry((2, 3, 1), (0, 0, 4)),
        geometry((2, 3, 5), (0, 0, 1)),
        geometry((2, 3, 5), z=2.5),
        Geometry("b", (2, 3, 5), (1.0, 1.0, 1.0), "mm", None),
        Geometry("b", (2, 3), (1.0, 1.0), "px"),
    ],
    ids=["covered", "between", "spacing", "no affine", "image"],
)
def test_other_grids_change_nothing(other: Geometry) -> None:
    labels, own = np.ones((2, 3, 1), dtype=np.uint8), geometry((2, 3, 1), (0, 0, 4))
    assert extend_to_cover(labels, own, other) == (labels, own)
