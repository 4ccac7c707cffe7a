"""The axial, coronal and sagittal plane of a volume as radiologists view them: which slices, which way up, how large.

Arrays have the axes (Z, Y, X): Z from the feet up, Y from front to back, X from the patient's right to the left. In a
picture the patient's right is on the left, the front on top or on the left, and the head on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")

CONVENTION = (
    "R, L: the patient's right and left; A, P: front and back; S, I: head and feet. Radiological view: the patient's "
    "right is on the left. Ticks at the edges: where the other two planes cut. Slices are counted from the feet, the "
    "front and the patient's right."
)
"""Says in a caption how pictures of planes are to be read."""


class ThreePlanes(NamedTuple, Generic[T]):
    """Something of each plane."""

    axial: T
    coronal: T
    sagittal: T


class Position(NamedTuple):
    """Numbers of the three slices that are shown: z of the axial one, y of the coronal, x of the sagittal."""

    z: int
    y: int
    x: int


class Edges(NamedTuple):
    """Letters of the directions at the four edges of a picture."""

    left: str
    right: str
    top: str
    bottom: str


@dataclass(frozen=True)
class Plane:
    """One of the three orthogonal planes.

    Attributes:
        name: Name, such as "axial".
        axis: Axis of (Z, Y, X) across it.
        rows: Axis that runs down the picture, or up where `head_on_top`.
        columns: Axis that runs from the left to the right of the picture.
        edges: Where these axes point.
    """

    name: str
    axis: int
    rows: int
    columns: int
    edges: Edges

    @property
    def head_on_top(self) -> bool:
        """Whether rows run along Z, which counts from the feet: the picture shows the last one first."""
        return self.rows == 0

    def cut(self, values: Any, index: int) -> np.ndarray:
        """One slice as it is shown: (..., H, W) of values (..., Z, Y, X), of which only this slice is read."""
        leading = (slice(None),) * (values.ndim - 3 + self.axis)
        return self._upright(np.asarray(values[(*leading, index)]))

    def project(self, values: np.ndarray) -> np.ndarray:
        """Largest value along the axis across the plane, as it is shown: (..., H, W) of values (..., Z, Y, X)."""
        return self._upright(np.asarray(values.max(axis=self.axis - 3)))

    def size_mm(self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> tuple[float, float]:
        """Height and width of the picture in the patient."""
        return shape[self.rows] * spacing_mm[self.rows], shape[self.columns] * spacing_mm[self.columns]

    def crossing(self, position: Position, shape: tuple[int, int, int]) -> tuple[float, float]:
        """Where the other two planes cut this one, as fractions of its height from the top and its width."""
        down, across = ((position[axis] + 0.5) / shape[axis] for axis in (self.rows, self.columns))
        return 1 - down if self.head_on_top else down, across

    def _upright(self, picture: np.ndarray) -> np.ndarray:
        return picture[..., ::-1, :] if self.head_on_top else picture


PLANES = ThreePlanes(
    Plane("axial", 0, 1, 2, Edges(left="R", right="L", top="A", bottom="P")),
    Plane("coronal", 1, 0, 2, Edges(left="R", right="L", top="S", bottom="I")),
    Plane("sagittal", 2, 0, 1, Edges(left="A", right="P", top="S", bottom="I")),
)


def cut_planes(values: Any, position: Position) -> ThreePlanes[np.ndarray]:
    """The three slices at a position as they are shown; see `Plane.cut`."""
    return ThreePlanes(*(plane.cut(values, position[plane.axis]) for plane in PLANES))


def project_planes(values: np.ndarray) -> ThreePlanes[np.ndarray]:
    """Maximum-intensity projections along the three axes as they are shown; see `Plane.project`."""
    return ThreePlanes(*(plane.project(values) for plane in PLANES))


def largest_slices(
    candidates: Sequence[Any | None], shape: tuple[int, int, int], *, ignore_label: int | None = None
) -> Position:
    """The slice of each plane with most voxels of class 1 and above; the middle one of several, such as of a box.

    Args:
        candidates: Class indices (Z, Y, X), read slice by slice, or None; the first one with any foreground counts.
        shape: Size of the volume, whose middle is taken without any foreground.
        ignore_label: A value that is no foreground; None if there is none.
    """
    for labels in candidates:
        if labels is not None and any((counts := _count_foreground(labels, shape, ignore_label))[0]):
            return Position(*(_middle_of_largest(count) for count in counts))
    return Position(*(size // 2 for size in shape))


def _count_foreground(labels: Any, shape: tuple[int, int, int], ignore_label: int | None) -> list[np.ndarray]:
    """Voxels of the foreground in each slice along Z, Y and X."""
    counts = [np.zeros(size, dtype=np.int64) for size in shape]
    for z in range(shape[0]):
        plane = np.asarray(labels[z])
        foreground = plane > 0 if ignore_label is None else (plane > 0) & (plane != ignore_label)
        counts[0][z] = np.count_nonzero(foreground)
        counts[1] += np.count_nonzero(foreground, axis=1)
        counts[2] += np.count_nonzero(foreground, axis=0)
    return counts


def _middle_of_largest(counts: np.ndarray) -> int:
    largest = np.flatnonzero(counts == counts.max())
    return int(largest[len(largest) // 2])


def picture_sizes(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], *, box_hw: tuple[int, int]
) -> ThreePlanes[tuple[int, int]]:
    """Height and width in pixels of the pictures of the three planes, each as large as a box allows.

    A picture has as many pixels per millimetre down as across, so that shapes are true; its sides have at least one
    pixel, however thin the volume.

    Args:
        shape: Voxels along (Z, Y, X).
        spacing_mm: Size of a voxel along (Z, Y, X).
        box_hw: Largest height and width in pixels.
    """
    return ThreePlanes(*(fit_into(plane.size_mm(shape, spacing_mm), box_hw) for plane in PLANES))


def fit_into(size_mm: tuple[float, float], box_hw: tuple[int, int]) -> tuple[int, int]:
    """Height and width in pixels of the largest picture of a size in the patient that fits into a box."""
    scale = min(limit / side for limit, side in zip(box_hw, size_mm, strict=True))
    return max(1, round(scale * size_mm[0])), max(1, round(scale * size_mm[1]))


_CONTEXT = 3
"""Sides of a close-up in those of the foreground in it."""
_SMALL = 0.25
"""Share of a picture below which a close-up of its foreground shows more."""


def close_up(foreground: np.ndarray, pixel_mm: tuple[float, float]) -> tuple[slice, slice] | None:
    """Rows and columns of a square around small foreground of a picture, cut off at its edges.

    Args:
        foreground: (H, W) booleans.
        pixel_mm: Height and width of a pixel.

    Returns:
        None if there is no foreground, or if it is not small.
    """
    if not foreground.any():
        return None
    ends = [(int(found.min()), int(found.max()) + 1) for found in np.nonzero(foreground)]
    side = _CONTEXT * max((last - first) * size for (first, last), size in zip(ends, pixel_mm, strict=True))
    parts = []
    for (first, last), size, count in zip(ends, pixel_mm, foreground.shape, strict=True):
        half, middle = side / size / 2, (first + last) / 2
        parts.append(slice(max(0, round(middle - half)), min(count, max(last, round(middle + half)))))
    rows, columns = parts
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return (rows, columns) if area < _SMALL * foreground.size else None
