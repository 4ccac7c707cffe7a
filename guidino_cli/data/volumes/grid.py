"""Volumes with canonical axes, and the grid of their source, into which labels are written back."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from guidino_cli.data.volumes.canonical import find_orientation, orientation_codes
from guidino_cli.types import Geometry, VolumeSource


@dataclass(frozen=True, eq=False)
class SourceVolume:
    """A volume as its file has it.

    Attributes:
        values: (X, Y, Z) or, with channels, (X, Y, Z, C), in the file's axis order.
        geometry: Shape, spacing and affine of the first three axes.
        header: nibabel's header of a NIfTI file; None for other formats.
    """

    values: np.ndarray
    geometry: Geometry
    header: Any = None


@dataclass(frozen=True, eq=False)
class Grid:
    """The grid of a source, and how its axes lie.

    Attributes:
        geometry: Of the source, in its own axes.
        to_canonical: (3, 2) orientation from the source's axes to canonical ones, see `canonical.find_orientation`.
        header: nibabel's header of a NIfTI source, so that labels are written with the same; None for other formats.
        source: File of the first channel, or its DICOM series.
    """

    geometry: Geometry
    to_canonical: np.ndarray
    header: Any
    source: VolumeSource

    @classmethod
    def of(cls, volume: SourceVolume, source: VolumeSource, *, axes_where_unknown: str | None = None) -> "Grid":
        """The grid of a volume that was read; `DataError` if its header does not say where the axes point."""
        orientation = find_orientation(volume.geometry, axes_where_unknown=axes_where_unknown)
        return cls(volume.geometry, orientation, volume.header, source)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the canonical axes Z, Y, X."""
        x, y, z = (self.geometry.shape[axis] for axis in self._axes())
        return z, y, x

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Size of a voxel along the canonical axes Z, Y, X."""
        x, y, z = (self.geometry.spacing[axis] for axis in self._axes())
        return z, y, x

    @property
    def is_picture(self) -> bool:
        """Whether the source is a picture, which states no physical size."""
        return self.geometry.unit == "px"

    @property
    def orientation(self) -> str:
        """Directions of the source's axes, such as "PSR"; "" if its header states none."""
        return orientation_codes(self.geometry)

    def _axes(self) -> list[int]:
        """Axes of the source that point left or right, forth or back, up or down, in this order."""
        order: list[int] = np.argsort(self.to_canonical[:, 0]).tolist()
        return order


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume with canonical axes.

    Attributes:
        values: (C, Z, Y, X) in the numbers of the file.
        grid: Grid of the first channel.
        notes: What was done to it that a user should know, such as channels resampled to the first one's grid.
    """

    values: np.ndarray
    grid: Grid
    notes: tuple[str, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Size of a voxel along Z, Y, X."""
        return self.grid.spacing_mm
