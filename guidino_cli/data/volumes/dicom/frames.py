"""Position, scale and volume of each slice of a DICOM file."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidino_cli.data.volumes.dicom.datasets import read_numbers, read_text, read_whole
from guidino_cli.progress import pluralize

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Frame:
    """One slice: a file of its own, or a frame of a multi-frame file.

    Attributes:
        path: The file.
        index: Number of the frame in it, from 0.
        position: Centre of the first pixel in mm (LPS); None if it is not stated.
        orientation: Directions of a row and of a column (LPS); None likewise.
        spacing: Distance of rows and of columns in mm; None likewise.
        thickness: Stated distance of slices, or thickness, in mm; only a single slice goes by it.
        slope: Factor of the stored numbers.
        intercept: Added after that.
        instance: SOPInstanceUID and number of the frame.
        attributes: What tells volumes of one series apart, such as ("b-value", "800"); "" where it is not stated.
    """

    path: Path
    index: int
    position: Triple | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, float] | None
    thickness: float | None
    slope: float
    intercept: float
    instance: tuple[str, int]
    attributes: tuple[tuple[str, str], ...]


def read_frames(path: Path, dataset: Any) -> tuple[tuple[Frame, ...], str]:
    """Slices of a file, and why they cannot be told apart ("" if they can)."""
    count = read_whole(dataset, "NumberOfFrames", 1)
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if count > 1 and not groups:
        return (_frame_of(path, 0, dataset, []),), f"it has {count:,} frames without a position of each"
    if not groups:
        return (_frame_of(path, 0, dataset, []),), ""
    if len(groups) != count:
        return (), f"it claims {pluralize(count, 'frame')}, and describes {len(groups):,}"
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    return tuple(_frame_of(path, index, dataset, [group, *shared]) for index, group in enumerate(groups)), ""


# Where multi-frame files keep what others have at the top.
_GROUP_OF = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "FrameType": "MRImageFrameTypeSequence",
}


def _frame_of(path: Path, index: int, dataset: Any, groups: list[Any]) -> Frame:
    def find(keyword: str) -> Any:
        for group in groups:
            items = group.get(_GROUP_OF.get(keyword, ""))
            if items and keyword in items[0]:
                return items[0].get(keyword)
        return dataset.get(keyword)

    spacing = read_numbers(find("PixelSpacing"), 2)
    position, orientation = (
        read_numbers(find("ImagePositionPatient"), 3),
        read_numbers(find("ImageOrientationPatient"), 6),
    )
    distance, thickness = (read_numbers(find(name), 1) for name in ("SpacingBetweenSlices", "SliceThickness"))
    stated = distance or thickness
    slope, intercept = (read_numbers(find(name), 1) for name in ("RescaleSlope", "RescaleIntercept"))
    return Frame(
        path=path,
        index=index,
        position=None if position is None else (position[0], position[1], position[2]),
        orientation=orientation,
        spacing=None if spacing is None or min(spacing) <= 0 else (spacing[0], spacing[1]),
        thickness=None if stated is None or stated[0] <= 0 else stated[0],
        slope=1.0 if slope is None else slope[0],
        intercept=0.0 if intercept is None else intercept[0],
        instance=(read_text(dataset, "SOPInstanceUID"), index),
        attributes=_attributes(dataset, find),
    )


def _attributes(dataset: Any, find: Any) -> tuple[tuple[str, str], ...]:
    """Attributes that may distinguish volumes of one series, the most specific first."""
    kinds = [str(item) for item in (find("FrameType") or dataset.get("ImageType") or [])]
    return (
        ("echo time", _first_number(find("EffectiveEchoTime"), find("EchoTime"), find("EchoNumbers"))),
        ("b-value", _b_value(dataset, find("DiffusionBValue"))),
        ("time", _first_number(find("TemporalPositionIndex"), find("TemporalPositionIdentifier"))),
        ("acquisition", _first_number(find("FrameAcquisitionNumber"), find("AcquisitionNumber"))),
        ("image type", "/".join(kinds[2:])),
    )


# Where vendors kept the b-value before the standard had it: group, creator of the block, element.
_PRIVATE_B_VALUES = (
    (0x0019, "SIEMENS MR HEADER", 0x0C),
    (0x2001, "Philips Imaging DD 001", 0x03),
    (0x0043, "GEMS_PARM_01", 0x39),
)


def _b_value(dataset: Any, stated: Any) -> str:
    if (found := _first_number(stated)) != "":
        return found
    for group, creator, element in _PRIVATE_B_VALUES:
        try:
            value = dataset.private_block(group, creator)[element].value
        except KeyError:
            continue
        if isinstance(value, bytes):
            value = value.decode("ascii", errors="replace").split("\\")[0].strip()
        elif not isinstance(value, str | float | int) and len(value):
            value = value[0]
        number = read_numbers(value, 1)
        if number is not None:
            # GE adds a billion to mark that the value is one of several.
            return f"{number[0] % 1e9:g}"
    in_name = re.search(r"_b(\d+)(?![\d_])", read_text(dataset, "SequenceName"))
    return in_name[1] if in_name else ""


def _first_number(*values: Any) -> str:
    for value in values:
        number = read_numbers(value, 1)
        if number is not None:
            return f"{number[0]:g}"
    return ""
