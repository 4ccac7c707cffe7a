"""Find the series of DICOM files in a folder: what belongs together, in which order, and whether it is a volume."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guidino_cli.data.volumes.dicom.datasets import import_dicom, looks_like_dicom
from guidino_cli.data.volumes.dicom.frames import Frame
from guidino_cli.data.volumes.dicom.grouping import Slice, Split, find_offsets, group_slices
from guidino_cli.data.volumes.dicom.headers import Header, read_header
from guidino_cli.data.volumes.dicom.problems import describe_bad_files, describe_grid, describe_unreadable
from guidino_cli.data.volumes.dicom.regularity import SAME_POSITION_MM, slice_normal
from guidino_cli.errors import DataError
from guidino_cli.progress import join_first

SERIES_HEADINGS = ("key", "modality", "description", "size", "spacing in mm", "files")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Series:
    """Slices of one volume, in the order along their normal.

    Attributes:
        key: 12 hex digits of the SHA-256 of its UID and of what tells it apart from other volumes of that UID.
        uid: SeriesInstanceUID, "" if it was removed; never printed or written.
        folder: The deepest folder that holds all files of its UID: what is read from there has the same key.
        patient: 12 hex digits that are the same for all series of a patient.
        modality: Modality, such as "CT".
        description: SeriesDescription.
        split: What tells it apart from other volumes of its UID, such as ("b-value", "800"); empty if there are none.
        headers: Of its files, in the order of their first slices.
        frames: Its slices, from the lowest position along the normal.
        size: Voxels along a row, along a column, and across the slices.
        spacing_mm: Distances of voxels along the same axes; None where the files do not state them.
        problem: Why it cannot be read as a volume, in one sentence; None if it can.
    """

    key: str
    uid: str
    folder: Path
    patient: str
    modality: str
    description: str
    split: tuple[tuple[str, str], ...]
    headers: tuple[Header, ...]
    frames: tuple[Frame, ...]
    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None
    problem: str | None

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, in the order of their first slices."""
        return tuple(header.path for header in self.headers)

    @property
    def title(self) -> str:
        """The description, with what tells the volume apart."""
        parts = [f"{name} {value or 'not stated'}" for name, value in self.split]
        return ", ".join(filter(None, [self.description, *parts]))

    @property
    def affine_ras(self) -> np.ndarray:
        """(4, 4) from the indices of a voxel along the axes of `size` to scanner millimetres (RAS+).

        Raises:
            ValueError: The files do not state where they lie.
        """
        first, last = self.frames[0], self.frames[-1]
        if first.position is None or last.position is None or first.orientation is None or self.spacing_mm is None:
            raise ValueError(f"series {self.key} is no regular grid")
        affine = np.eye(4)
        affine[:3, 0] = np.array(first.orientation[:3]) * self.spacing_mm[0]
        affine[:3, 1] = np.array(first.orientation[3:]) * self.spacing_mm[1]
        affine[:3, 2] = slice_normal(first.orientation) * self.spacing_mm[2]
        if len(self.frames) > 1:
            affine[:3, 2] = np.subtract(last.position, first.position) / (len(self.frames) - 1)
        affine[:3, 3] = first.position
        return np.asarray(_LPS_TO_RAS @ affine)


@dataclass(frozen=True)
class DicomFolder:
    """DICOM series of a folder and its subfolders.

    Attributes:
        path: The folder.
        series: Its series of images, by folder and number of files.
        segmentations: DICOM SEG files.
        unreadable: Files that look like DICOM and cannot be read, with the reason.
        others: Number of other objects by modality, such as reports and plans.
    """

    path: Path
    series: tuple[Series, ...]
    segmentations: tuple[Path, ...]
    unreadable: tuple[tuple[Path, str], ...]
    others: tuple[tuple[str, int], ...]


def find_series(folder: Path, *, allow_single: bool = False) -> DicomFolder:
    """Read the headers of all DICOM files in a folder and those below it, and group them.

    Slices of one series have the same SeriesInstanceUID, rows, columns and pixel spacing. Where positions repeat, they
    are split by echo time, b-value, temporal position, acquisition or image type, whichever tells them apart.

    Args:
        folder: Where to look; files are known by their content, or by a name such as `1.dcm`.
        allow_single: Whether one slice is a volume.

    Raises:
        DataError: There is no such folder.
        DependencyError: pydicom is not installed.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    import_dicom()
    headers: list[Header] = []
    unreadable: list[tuple[Path, str]] = []
    for path in _walk(folder):
        if not looks_like_dicom(path):
            continue
        try:
            header = read_header(path)
        except DataError as error:
            unreadable.append((path, str(error).removeprefix(f"{path}: ")))
            continue
        if header is not None:
            headers.append(header)
    images = [header for header in headers if header.is_image]
    groups = group_slices(images)
    folders = _find_folders(images)
    found = [
        _make_series(group, split, folders[group[0][0].series_uid], unreadable, allow_single=allow_single)
        for group, split in groups
    ]
    others = Counter(item.modality or "?" for item in headers if not item.is_image and not item.is_segmentation)
    return DicomFolder(
        folder,
        tuple(sorted(found, key=lambda item: (str(item.files[0].parent), item.files[0].name, item.split))),
        tuple(header.path for header in headers if header.is_segmentation),
        tuple(unreadable),
        tuple(sorted(others.items())),
    )


def choose_series(folder: Path, key: str | None, *, allow_single: bool = False) -> Series:
    """The series of a folder with a key, or its only one.

    Raises:
        DataError: There is no such series, several and no key, or it has a problem.
        DependencyError: pydicom is not installed.
    """
    found = find_series(folder, allow_single=allow_single).series
    keys = join_first([item.key for item in found])
    if not found:
        raise DataError(f"{folder}: holds no DICOM images")
    chosen = [item for item in found if key in (None, item.key)]
    if not chosen:
        raise DataError(f"{folder}: has no series {key}, only {keys}; `guidino dicom {folder}` lists them")
    if len(chosen) > 1:
        raise DataError(
            f"{folder}: holds {len(chosen)} series ({keys}); name one of them, `guidino dicom {folder}` lists them"
        )
    if chosen[0].problem:
        raise DataError(f"{folder}: series {chosen[0].key} is no volume: {chosen[0].problem}")
    return chosen[0]


def series_row(series: Series) -> tuple[str, ...]:
    """Cells of a series under `SERIES_HEADINGS`; nothing in them names the patient."""
    spacing = "-" if series.spacing_mm is None else "x".join(f"{length:.4g}" for length in series.spacing_mm)
    size = "x".join(map(str, series.size))
    return series.key, series.modality or "?", series.title or "-", size, spacing, str(len(series.files))


def _walk(folder: Path) -> Iterable[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (path for name in sorted(names) if (path := Path(place) / name).is_file())


def _find_folders(headers: Sequence[Header]) -> dict[str, Path]:
    """The deepest folder that holds all files of each UID."""
    by_uid: dict[str, list[Path]] = defaultdict(list)
    for header in headers:
        by_uid[header.series_uid].append(header.path.parent)
    return {uid: Path(os.path.commonpath(folders)) for uid, folders in by_uid.items()}


def _make_series(
    slices: list[Slice], split: Split, folder: Path, unreadable: Sequence[tuple[Path, str]], *, allow_single: bool
) -> Series:
    offsets = find_offsets(slices)
    order = np.arange(len(slices)) if offsets is None else np.lexsort((np.arange(len(slices)), offsets))
    ordered = [slices[index] for index in order]
    headers = tuple({header.path: header for header, _ in ordered}.values())
    frames = tuple(frame for _, frame in ordered)
    first = ordered[0][0]
    spacing = _spacing_of(frames, offsets)
    problem = (
        describe_bad_files(headers)
        or describe_grid(frames, offsets, allow_single=allow_single)
        or ("its files do not state the size of a voxel (PixelSpacing)" if spacing is None else "")
        or describe_unreadable(headers, unreadable)
    )
    identity = first.series_uid or _identity_without_uid(ordered)
    return Series(
        key=_digest("series", identity, *(f"{name}={value}" for name, value in split)),
        uid=first.series_uid,
        # Without a UID, the files of one folder are a series.
        folder=folder if first.series_uid else first.path.parent,
        patient=_digest("patient", first.patient_id or first.study_uid or identity),
        modality=first.modality,
        description=first.description,
        split=split,
        headers=headers,
        frames=frames,
        size=(first.columns, first.rows, len(frames)),
        spacing_mm=spacing,
        problem=problem or None,
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", errors="backslashreplace")).hexdigest()[:12]


def _identity_without_uid(slices: Sequence[Slice]) -> str:
    """Substitute for a SeriesInstanceUID that was removed: the positions of the slices."""
    items = sorted(f"{header.study_uid} {frame.instance} {frame.position}" for header, frame in slices)
    return "\n".join(["without UID", *items])


def _spacing_of(frames: Sequence[Frame], offsets: np.ndarray | None) -> tuple[float, float, float] | None:
    """Spacing along a row, along a column, and between slices, which is the difference of their positions."""
    first = frames[0]
    if first.spacing is None:
        return None
    if len(frames) == 1:
        return None if first.thickness is None else (first.spacing[1], first.spacing[0], first.thickness)
    if offsets is None or any(frame.position is None for frame in frames):
        return None
    places = np.array([frame.position for frame in frames])
    distance = float(np.linalg.norm(places[-1] - places[0])) / (len(frames) - 1)
    distinct = np.diff(np.sort(offsets))
    if (distinct <= SAME_POSITION_MM).any() or np.ptp(distinct) > SAME_POSITION_MM:
        # Not a regular stack: the usual distance, for the list of series.
        distance = float(np.median(distinct[distinct > SAME_POSITION_MM], axis=0)) if distance else 0.0
    return (first.spacing[1], first.spacing[0], distance) if distance > 0 else None
