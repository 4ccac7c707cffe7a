"""Read DICOM SEG files into label volumes: binary, fractional and label-map segmentations."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.data.limits import require_pixels
from guidino_cli.data.volumes.dicom.datasets import dicom_errors, load_dataset
from guidino_cli.data.volumes.dicom.frames import Frame, read_frames
from guidino_cli.data.volumes.dicom.headers import SEGMENTATION_CLASSES
from guidino_cli.data.volumes.dicom.pixels import iterate_pixels
from guidino_cli.data.volumes.dicom.regularity import MAX_DISTANCE_MM, MAX_DISTANCE_SHARE, slice_normal
from guidino_cli.errors import DataError, to_one_line, unknown_name
from guidino_cli.progress import join_first
from guidino_cli.types import Geometry

SEGMENTATION_SUFFIXES = (".dcm",)
_MAX_SEGMENTS = 65535
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class SegmentMap:
    """The content of a DICOM SEG file.

    Attributes:
        labels: (X, Y, Z) numbers of segments, 0 outside all: uint8, or uint16 above 255. X runs along a row, Y along a
            column, Z across the slices, from the first frame that is there to the last.
        geometry: Of the labels. The source images may reach further: slices without any segment may be left out.
        names: Labels of the segments by number.
        series_uid: SeriesInstanceUID of the images that it belongs to, "" if it states none; never printed or written.
    """

    labels: np.ndarray
    geometry: Geometry
    names: dict[int, str]
    series_uid: str


def is_segmentation_file(path: Path) -> bool:
    """Whether a path looks like a DICOM SEG file; hidden files do not."""
    return path.suffix.lower() in SEGMENTATION_SUFFIXES and not path.name.startswith(".")


def read_segmentation(path: Path, *, segment: str | None = None) -> SegmentMap:
    """Read a DICOM SEG file.

    Frames that are not there are slices without the segment. A fractional segment covers the voxels with at least half
    of its largest value.

    Args:
        path: The file.
        segment: Label or number of the only segment to read; its voxels become its number.

    Raises:
        DataError: No segmentation, damaged, of a slide or a picture, on no regular grid, without that segment, or its
            segments overlap and none is named.
        DependencyError: pydicom is not installed.
    """
    dataset = load_dataset(path, pixels=True)
    with dicom_errors(path):
        _require_segmentation(path, dataset)
        names = _segment_names(path, dataset)
        frames, problem = read_frames(path, dataset)
        if problem:
            raise DataError(f"{path}: {problem}")
        grid = _Grid.of(path, dataset, frames)
        wanted = None if segment is None else _find_segment(path, names, segment)
        labels = _paint(path, dataset, grid, names, wanted)
    return SegmentMap(labels, grid.geometry, names, _referenced_series(dataset))


def read_labels(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read the numbers of all segments as a label volume; see `read_segmentation`."""
    found = read_segmentation(path)
    return found.labels, found.geometry


def read_segment_names(path: Path) -> dict[int, str]:
    """Labels of the segments by number, without decoding a pixel.

    Raises:
        DataError: No segmentation, or damaged.
        DependencyError: pydicom is not installed.
    """
    with _open_header(path) as dataset:
        return _segment_names(path, dataset)


def read_referenced_series(path: Path) -> str:
    """SeriesInstanceUID of the images that a segmentation belongs to, "" if it states none; never print or write it.

    Raises:
        DataError: No segmentation, or damaged.
        DependencyError: pydicom is not installed.
    """
    with _open_header(path) as dataset:
        return _referenced_series(dataset)


@contextmanager
def _open_header(path: Path) -> Iterator[Any]:
    """A segmentation without its pixels."""
    dataset = load_dataset(path, pixels=False)
    with dicom_errors(path):
        _require_segmentation(path, dataset)
        yield dataset


def _require_segmentation(path: Path, dataset: Any) -> None:
    if str(dataset.get("SOPClassUID") or "") not in SEGMENTATION_CLASSES and dataset.get("Modality") != "SEG":
        # A damaged file may hold anything there, line breaks too.
        kind = to_one_line(str(dataset.get("Modality") or "unknown"))
        raise DataError(f"{path}: is a DICOM file of modality {kind}, expected a segmentation (SEG)")
    if "TotalPixelMatrixRows" in dataset:
        raise DataError(f"{path}: segments a slide in tiles, expected slices of a volume")


def _segment_names(path: Path, dataset: Any) -> dict[int, str]:
    """Labels by number; the background, number 0 of label maps, is no segment."""
    names = {}
    for item in dataset.get("SegmentSequence") or []:
        number = int(item.SegmentNumber)
        if number in names or not 0 <= number <= _MAX_SEGMENTS:
            raise DataError(f"{path}: describes segment {number} twice, or it is no number from 1")
        names[number] = str(item.get("SegmentLabel") or f"segment {number}").strip()
    names.pop(0, None)
    if not names:
        raise DataError(f"{path}: describes no segments (SegmentSequence)")
    return names


def _find_segment(path: Path, names: dict[int, str], wanted: str) -> int:
    """Number of the segment with a label, or with a number where no label is that text."""
    same = [number for number, name in names.items() if name.casefold() == wanted.casefold()]
    if len(same) > 1:
        raise DataError(
            f"{path}: segments {join_first([str(item) for item in same])} are called {wanted}; name one by number"
        )
    if same:
        return same[0]
    if wanted.isdecimal() and int(wanted) in names:
        return int(wanted)
    raise DataError(f"{path}: {unknown_name('segment', wanted, names.values())}")


def _referenced_series(dataset: Any) -> str:
    items = dataset.get("ReferencedSeriesSequence") or []
    return str(items[0].get("SeriesInstanceUID") or "") if len(items) == 1 else ""


@dataclass(frozen=True, eq=False)
class _Grid:
    """The slices between the first and the last frame, and where each frame lies among them."""

    geometry: Geometry
    slices: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, dataset: Any, frames: Sequence[Frame]) -> "_Grid":
        first = frames[0]
        if first.orientation is None or any(frame.position is None for frame in frames):
            raise DataError(f"{path}: does not state where in the patient its frames lie (ImagePositionPatient)")
        if first.spacing is None:
            raise DataError(f"{path}: does not state the size of a pixel (PixelSpacing)")
        for frame in frames:
            same_turn = frame.orientation is not None and np.allclose(frame.orientation, first.orientation, atol=1e-3)
            if not same_turn or frame.spacing is None or not np.allclose(frame.spacing, first.spacing, rtol=1e-3):
                raise DataError(f"{path}: its frames have several orientations or pixel sizes, expected one")
        normal = slice_normal(first.orientation)
        places = np.array([frame.position for frame in frames])
        offsets = places @ normal
        distance = _find_distance(path, offsets, first.thickness)
        steps = np.rint((offsets - offsets.min()) / distance)
        require_pixels(path, (int(dataset.Columns), int(dataset.Rows), int(steps.max()) + 1), is_volume=True)
        lowest, highest = places[offsets.argmin()], places[offsets.argmax()]
        across = normal * distance if steps.max() == 0 else (highest - lowest) / steps.max()
        aside = np.abs(lowest + np.outer(steps, across) - places).max()
        if aside > max(MAX_DISTANCE_MM, 0.05 * min(first.spacing)):
            raise DataError(
                f"{path}: its frames are shifted by up to {aside:.2f} mm against a stack of equal distances"
            )
        return cls(_geometry(path, dataset, first, lowest, across, int(steps.max()) + 1), tuple(steps.astype(int)))


def _find_distance(path: Path, offsets: np.ndarray, stated: float | None) -> float:
    """Distance of slices: the stated one if the positions are multiples of it, else their smallest difference."""
    gaps = np.diff(np.unique(np.round(offsets, 3)))
    # Positions that were written with few digits differ by less.
    gaps = gaps[gaps > MAX_DISTANCE_MM] if (gaps > MAX_DISTANCE_MM).any() else gaps
    if not len(gaps):
        if stated is None:
            raise DataError(f"{path}: has one slice, and does not state how thick it is (SpacingBetweenSlices)")
        return stated
    for distance in filter(None, (stated, float(gaps.min()))):
        steps = np.rint(gaps / distance)
        allowed = min(MAX_DISTANCE_SHARE * distance, MAX_DISTANCE_MM) + 1e-3
        if (steps >= 1).all() and (np.abs(gaps - steps * distance) <= allowed * steps).all():
            return float(distance)
    raise DataError(
        f"{path}: the distances of its slices, {gaps.min():.2f} to {gaps.max():.2f} mm, are no multiples of one"
    )


def _geometry(path: Path, dataset: Any, frame: Frame, origin: np.ndarray, across: np.ndarray, depth: int) -> Geometry:
    if frame.orientation is None or frame.spacing is None:
        raise ValueError("a frame without a place")
    affine = np.eye(4)
    affine[:3, 0] = np.array(frame.orientation[:3]) * frame.spacing[1]
    affine[:3, 1] = np.array(frame.orientation[3:]) * frame.spacing[0]
    affine[:3, 2], affine[:3, 3] = across, origin
    shape = (int(dataset.Columns), int(dataset.Rows), depth)
    spacing = (frame.spacing[1], frame.spacing[0], float(np.linalg.norm(across)))
    return Geometry(str(path), shape, spacing, "mm", _LPS_TO_RAS @ affine)


def _paint(path: Path, dataset: Any, grid: _Grid, names: dict[int, str], wanted: int | None) -> np.ndarray:
    """Numbers of segments in the voxels of the grid."""
    width, height, depth = grid.geometry.shape
    labels = np.zeros((depth, height, width), dtype=np.uint8 if max(names) <= 255 else np.uint16)
    is_label_map = str(dataset.get("SegmentationType")) == "LABELMAP"
    # What label maps call the space between segments, if not 0.
    padding = dataset.get("PixelPaddingValue")
    numbers = [0] * len(grid.slices) if is_label_map else _segments_of_frames(path, dataset)
    threshold = _threshold(path, dataset)
    overlaps: Counter[tuple[int, int]] = Counter()
    for pixels, place, number in zip(
        iterate_pixels(path, dataset, list(range(len(grid.slices)))), grid.slices, numbers, strict=True
    ):
        if pixels.shape != (height, width):
            raise DataError(f"{path}: a frame decodes to {pixels.shape}, its header says {(height, width)}")
        if is_label_map:
            if padding is not None and padding not in names:
                pixels = np.where(pixels == padding, 0, pixels)
            _paint_label_map(path, labels[place], pixels, names, wanted)
            continue
        if number not in names:
            raise DataError(f"{path}: a frame belongs to segment {number}, which is not described; it is damaged")
        if wanted not in (None, number):
            continue
        inside = pixels >= threshold
        taken = labels[place][inside]
        for other in np.unique(taken[(taken != 0) & (taken != number)]).tolist():
            overlaps[(other, number)] += int(np.count_nonzero(taken == other))
        labels[place][inside] = number
    if overlaps:
        raise DataError(f"{path}: {_describe_overlaps(overlaps, names)}")
    return labels.transpose(2, 1, 0)


def _paint_label_map(
    path: Path, plane: np.ndarray, pixels: np.ndarray, names: dict[int, str], wanted: int | None
) -> None:
    unknown = sorted(set(np.unique(pixels).tolist()) - {0, *names})
    if unknown:
        raise DataError(f"{path}: has segment {unknown[0]}, which is not described; it is damaged")
    inside = pixels != 0 if wanted is None else pixels == wanted
    if (plane[inside] != 0).any():
        raise DataError(f"{path}: two of its frames lie at the same place")
    plane[inside] = pixels[inside]


def _segments_of_frames(path: Path, dataset: Any) -> list[int]:
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    numbers = []
    for group in dataset.get("PerFrameFunctionalGroupsSequence") or [dataset]:
        items = next(
            (found for place in (group, *shared) if (found := place.get("SegmentIdentificationSequence"))), None
        )
        if not items:
            raise DataError(f"{path}: does not state which segment a frame belongs to (SegmentIdentificationSequence)")
        numbers.append(int(items[0].ReferencedSegmentNumber))
    return numbers


def _threshold(path: Path, dataset: Any) -> float:
    """Smallest number of a pixel inside a segment: half of the largest of fractional segments, 1 of binary ones."""
    kind = str(dataset.get("SegmentationType"))
    if kind == "FRACTIONAL":
        return max(1.0, float(dataset.MaximumFractionalValue) / 2)
    if kind not in ("BINARY", "LABELMAP"):
        raise DataError(f"{path}: is a segmentation of type {kind}, expected BINARY, FRACTIONAL or LABELMAP")
    return 1.0


def _describe_overlaps(overlaps: Counter[tuple[int, int]], names: dict[int, str]) -> str:
    (one, other), count = overlaps.most_common(1)[0]
    more = f", and {len(overlaps) - 1} more pairs" if len(overlaps) > 1 else ""
    return (
        f"its segments {one} ({names[one]}) and {other} ({names[other]}) overlap in {count:,} voxels{more}; a voxel "
        "can have one class only: save them as files of their own (`evaluate --segment NAME` scores one)"
    )
