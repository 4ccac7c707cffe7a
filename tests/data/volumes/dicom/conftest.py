"""Small DICOM files written by pydicom: series of slices and multi-frame objects."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import AXIAL, make_dataset, make_item

WriteSlice = Callable[..., Path]
WriteSeries = Callable[..., Path]


@pytest.fixture
def write_slice(tmp_path: Path) -> WriteSlice:
    """Write one file: `write_slice("a.dcm", z=3.0, Modality="MR")`."""

    def write(name: str, *, z: float = 0.0, pixels: np.ndarray | None = None, **tags: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        stored = np.zeros((4, 6), dtype=np.int16) if pixels is None else pixels
        dataset = make_dataset(stored, **({"ImagePositionPatient": [-10.0, -20.0, z]} | tags))
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def write_series(write_slice: WriteSlice, tmp_path: Path) -> WriteSeries:
    """Write a folder of slices at given heights; slice i holds i + 1 everywhere, in files of shuffled names."""

    def write(
        heights: Sequence[float] = (0.0, 2.0, 4.0),
        *,
        folder: str = "series",
        pixels: np.ndarray | None = None,
        **tags: Any,
    ) -> Path:
        for number, z in enumerate(heights):
            plane = np.full((4, 6), number + 1, dtype=np.int16) if pixels is None else pixels
            name = f"{folder}/{(7 * number + 3) % 101:03d}.dcm"
            write_slice(name, z=z, pixels=plane, InstanceNumber=number + 1, **tags)
        return tmp_path / folder

    return write


@pytest.fixture
def write_multiframe(tmp_path: Path) -> Callable[..., Path]:
    """Write an enhanced object of one file; each frame has a position and may have an orientation of its own."""

    def write(
        pixels: np.ndarray,
        positions: Sequence[Sequence[float]],
        *,
        orientations: Sequence[Sequence[float]] | None = None,
        slopes: Sequence[float] | None = None,
        name: str = "enhanced.dcm",
        **tags: Any,
    ) -> Path:
        dataset = make_dataset(
            pixels,
            **(
                {
                    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1",
                    "PixelSpacing": None,
                    "ImageOrientationPatient": None,
                    "ImagePositionPatient": None,
                    "SliceThickness": None,
                }
                | tags
            ),
        )
        shared = pydicom.Dataset()
        shared.PixelMeasuresSequence = [make_item(PixelSpacing=[0.75, 0.5], SliceThickness=5.0)]
        dataset.SharedFunctionalGroupsSequence = [shared]
        groups = []
        for number, position in enumerate(positions):
            group = pydicom.Dataset()
            group.PlanePositionSequence = [make_item(ImagePositionPatient=list(position))]
            turn = AXIAL if orientations is None else orientations[number]
            group.PlaneOrientationSequence = [make_item(ImageOrientationPatient=list(turn))]
            if slopes is not None:
                transformation = make_item(RescaleSlope=slopes[number], RescaleIntercept=-1)
                group.PixelValueTransformationSequence = [transformation]
            groups.append(group)
        dataset.PerFrameFunctionalGroupsSequence = groups
        path = tmp_path / name
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write
