"""Entries of `cases.json` as they are written: their types, and cases from and to them."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, PositiveFloat, PositiveInt
from typing_extensions import TypedDict

from guidino_cli.errors import DataError
from guidino_cli.files import describe_unsafe_name, relative_posix, shorten_name
from guidino_cli.types import Case, ChannelStatistics, FileRecord, StoredVolume, VolumeSource

AGAIN = "run `guidino prepare` again"


class _FileEntry(TypedDict):
    """Size, time and hash of a file."""

    size: Annotated[int, Field(ge=0)]
    mtime_ns: NotRequired[int]
    sha256: str


class _StatisticsEntry(TypedDict):
    """See `ChannelStatistics`."""

    minimum: float
    maximum: float
    mean: float
    std: Annotated[float, Field(ge=0)]
    median: float
    percentile_00_5: float
    percentile_99_5: float


class _SourceEntry(TypedDict):
    """A file, or a DICOM series of a folder."""

    path: Annotated[str, Field(min_length=1)]
    series: NotRequired[str]


class _VolumeEntry(TypedDict):
    """The stored arrays of a volume; see `StoredVolume`."""

    sources: Annotated[list[_SourceEntry], Field(min_length=1)]
    image: Annotated[str, Field(min_length=1)]
    labels: str | None
    foreground: str | None
    shape: Annotated[list[PositiveInt], Field(min_length=3, max_length=3)]
    spacing_mm: Annotated[list[PositiveFloat], Field(min_length=3, max_length=3)]
    statistics: Annotated[list[_StatisticsEntry], Field(min_length=1)]
    orientation: str
    is_picture: NotRequired[bool]


class CaseEntry(TypedDict):
    """A case in `cases.json`; paths are relative to it."""

    id: str
    image: Annotated[str, Field(min_length=1)]
    mask: str | None
    split: Literal["train", "val", "test"]
    fold: int | None
    group: str
    size_hw: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]
    foreground: Annotated[float, Field(ge=0, le=1)] | None
    fields: NotRequired[dict[str, str | float | bool | None]]
    image_file: NotRequired[_FileEntry]
    mask_file: NotRequired[_FileEntry]
    volume: NotRequired[_VolumeEntry]


class ManifestEntry(TypedDict):
    """Content of `cases.json`."""

    format: int
    name: str
    classes: Annotated[list[str], Field(min_length=1)]
    source: dict[str, Any]
    cases: list[CaseEntry]
    ignore_label: NotRequired[Annotated[int, Field(ge=1, le=255)] | None]
    channels: NotRequired[Annotated[list[str], Field(min_length=1)]]
    spacing_mm: NotRequired[Annotated[list[PositiveFloat | None], Field(min_length=3, max_length=3)]]
    statistics: NotRequired[list[_StatisticsEntry]]
    onto: NotRequired[Annotated[int, Field(ge=0)]]


def case_to_json(case: Case, folder: Path) -> dict[str, Any]:
    """The entry of a case in the manifest of a folder."""
    entry: dict[str, Any] = {
        "id": case.id,
        "image": _relative_path(case.image, folder),
        "mask": None if case.mask is None else _relative_path(case.mask, folder),
        "split": case.split,
        "fold": case.fold,
        "group": case.group,
        "size_hw": list(case.size_hw),
        "foreground": case.foreground,
    }
    entry |= {"fields": case.fields} if case.fields else {}
    records = {"image_file": case.image_record, "mask_file": case.mask_record}
    entry |= {key: _record_to_json(record) for key, record in records.items() if record is not None}
    return entry | ({} if case.volume is None else {"volume": _volume_to_json(case.volume, folder)})


def _volume_to_json(volume: StoredVolume, folder: Path) -> dict[str, Any]:
    sources = [
        {"path": _relative_path(source.path, folder)} | ({} if source.series is None else {"series": source.series})
        for source in volume.sources
    ]
    return {
        "sources": sources,
        "image": _relative_path(volume.image, folder),
        "labels": None if volume.labels is None else _relative_path(volume.labels, folder),
        "foreground": None if volume.foreground is None else _relative_path(volume.foreground, folder),
        "shape": list(volume.shape),
        "spacing_mm": list(volume.spacing_mm),
        "statistics": [asdict(item) for item in volume.statistics],
        "orientation": volume.orientation,
        **({"is_picture": True} if volume.is_picture else {}),
    }


def _volume_from_json(item: _VolumeEntry | None, folder: Path) -> StoredVolume | None:
    if item is None:
        return None
    z, y, x = item["shape"]
    depth, height, width = item["spacing_mm"]
    return StoredVolume(
        sources=tuple(VolumeSource(folder / source["path"], source.get("series")) for source in item["sources"]),
        image=folder / item["image"],
        labels=None if item["labels"] is None else folder / item["labels"],
        foreground=None if item["foreground"] is None else folder / item["foreground"],
        shape=(z, y, x),
        spacing_mm=(depth, height, width),
        statistics=tuple(ChannelStatistics(**own) for own in item["statistics"]),
        orientation=item["orientation"],
        is_picture=item.get("is_picture", False),
    )


def _record_to_json(record: FileRecord) -> dict[str, Any]:
    time = {} if record.mtime_ns is None else {"mtime_ns": record.mtime_ns}
    return {"size": record.size, **time, "sha256": record.sha256}


def _record_from_json(item: _FileEntry | None) -> FileRecord | None:
    return None if item is None else FileRecord(item["size"], item["sha256"], item.get("mtime_ns"))


def case_from_json(item: CaseEntry, path: Path) -> Case:
    """The case of an entry in the manifest at `path`; `DataError` if no file may be named by its id."""
    name, folder = item["id"], path.parent
    problem = describe_unsafe_name(name)
    if problem:
        raise DataError(f"{path}: the case id {shorten_name(name)!r} {problem}, and files are named by it; {AGAIN}")
    return Case(
        id=name,
        image=folder / item["image"],
        mask=None if item["mask"] is None else folder / item["mask"],
        split=item["split"],
        fold=item["fold"],
        group=item["group"],
        size_hw=(item["size_hw"][0], item["size_hw"][1]),
        foreground=item["foreground"],
        fields={name: str(value) for name, value in item.get("fields", {}).items()},
        image_record=_record_from_json(item.get("image_file")),
        mask_record=_record_from_json(item.get("mask_file")),
        volume=_volume_from_json(item.get("volume"), folder),
    )


def _relative_path(path: Path, folder: Path) -> str:
    try:
        return relative_posix(path.resolve(), folder.resolve())
    except ValueError:  # Another drive on Windows.
        return path.resolve().as_posix()
