"""Small DICOM files, written element by element with pydicom, for tests of what reads them."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pydicom

File = TypeVar("File", Path, BytesIO)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CT = "1.2.840.10008.5.1.4.1.1.2"


def make_dataset(pixels: np.ndarray, **tags: Any) -> Any:
    """An axial CT slice of 0.5 x 0.75 mm pixels; tags replace or, with None, remove elements."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = CT
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    frames, rows, columns = pixels.shape if pixels.ndim == 3 else (1, *pixels.shape)
    values: dict[str, Any] = {
        "SOPClassUID": CT,
        "SOPInstanceUID": pydicom.uid.generate_uid(),
        "StudyInstanceUID": "1.2.3.1",
        "SeriesInstanceUID": "1.2.3.2",
        "FrameOfReferenceUID": "1.2.3.3",
        "PatientID": "P-007",
        "PatientName": "Doe^Jane",
        "Modality": "CT",
        "SeriesDescription": "thorax",
        "Rows": rows,
        "Columns": columns,
        # Between rows first: pixels are 0.5 mm wide and 0.75 mm high.
        "PixelSpacing": [0.75, 0.5],
        "ImageOrientationPatient": list(AXIAL),
        "ImagePositionPatient": [-10.0, -20.0, 0.0],
        # Overlapping slices: the distance is another one.
        "SliceThickness": 5.0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": 8 * pixels.itemsize,
        "HighBit": 8 * pixels.itemsize - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "RescaleSlope": 1,
        "RescaleIntercept": 0,
        "PixelData": pixels.tobytes(),
    }
    if frames > 1:
        values["NumberOfFrames"] = frames
    for name, value in (values | tags).items():
        if value is not None:
            setattr(dataset, name, value)
    return dataset


def make_item(**tags: Any) -> Any:
    """A dataset of elements, such as an item of a sequence."""
    item = pydicom.Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return item


def make_segmentation(
    path: File,
    frames: Sequence[tuple[int, float, np.ndarray]],
    *,
    kind: str = "BINARY",
    names: dict[int, str] | None = None,
    distance: float | None = 2.0,
    **tags: Any,
) -> File:
    """Write a SEG of frames (segment, height, pixels of 4 x 6), independently of highdicom."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    is_map = kind == "LABELMAP"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7" if is_map else "1.2.840.10008.5.1.4.1.1.66.4"
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = "1.9.1", "1.9.2", "SEG"
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 4, 6, len(frames)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    bits = 1 if kind == "BINARY" else 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.SegmentationType = kind
    dataset.MaximumFractionalValue = 200
    names = names or {1: "liver", 2: "tumour"}
    dataset.SegmentSequence = [make_item(SegmentNumber=number, SegmentLabel=name) for number, name in names.items()]
    measures = make_item(PixelSpacing=[0.75, 0.5], SliceThickness=5.0)
    if distance is not None:
        measures.SpacingBetweenSlices = distance
    turn = make_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    dataset.SharedFunctionalGroupsSequence = [
        make_item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[turn])
    ]
    groups = []
    for number, z, _ in frames:
        group = make_item(PlanePositionSequence=[make_item(ImagePositionPatient=[-10.0, -20.0, z])])
        if not is_map:
            group.SegmentIdentificationSequence = [make_item(ReferencedSegmentNumber=number)]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    stack = np.stack([pixels for _, _, pixels in frames]).astype(np.uint8)
    packed = np.packbits(stack.reshape(-1), bitorder="little") if kind == "BINARY" else stack
    content = packed.tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def plane(*corner: int, value: int = 1) -> np.ndarray:
    """4 x 6 pixels, of which a block of 2 x 2 from a corner (row, column) has a value."""
    pixels = np.zeros((4, 6), dtype=np.uint8)
    row, column = corner
    pixels[row : row + 2, column : column + 2] = value
    return pixels
