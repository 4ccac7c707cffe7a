"""Manifest of a prepared data set, `cases.json`: written by `prepare`, read by every other command."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, PositiveFloat, PositiveInt
from typing_extensions import TypedDict

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import describe_unsafe_name, relative_posix, shorten_name, write_text
from guidino_cli.json_files import read_json_object, require_type
from guidino_cli.types import Case, ChannelStatistics, FileRecord, StoredVolume, VolumeSource

MANIFEST_FORMAT = 1
VOLUME_FORMAT = 2
"""Format of a data set of volumes; one of images is still written in format 1."""
MANIFEST_NAME = "cases.json"
_AGAIN = "run `guidino prepare` again"


@dataclass(frozen=True)
class Manifest:
    """A prepared data set.

    Attributes:
        name: Short name of the data set.
        classes: Class names; the index is the value in the masks, 0 is the background.
        cases: All cases, sorted by id.
        source: Provenance for readers: layout, mask rule, split rule, seed, findings.
        ignore_label: Value in the masks of pixels that do not count; None if all count. The cases have it, too.
        channels: Names of the channels of volumes; () for images, which have red, green and blue.
        spacing_mm: Size of the stored voxels along Z, Y, X; None for an axis on which each volume keeps its own. () for
            images.
        statistics: Intensities of the foreground of the training volumes, a channel each; () for images.
    """

    name: str
    classes: list[str]
    cases: list[Case]
    source: dict[str, Any] = field(default_factory=dict)
    ignore_label: int | None = None
    channels: tuple[str, ...] = ()
    spacing_mm: tuple[float | None, ...] = ()
    statistics: tuple[ChannelStatistics, ...] = ()

    @property
    def is_pictures(self) -> bool:
        """Whether the volumes are pictures, stored with all their channels and bits."""
        return any(case.volume is not None and case.volume.is_picture for case in self.cases)

    @property
    def is_volumes(self) -> bool:
        """Whether the cases are volumes; a data set never mixes them with images."""
        return any(case.volume is not None for case in self.cases)

    def select(self, split: str, fold: int | None = None) -> list[Case]:
        """Cases of "train", "val" or "test".

        With a fold, the training cases of that fold are the validation set and the other folds the training set.

        Raises:
            DataError: The folds do not exist.
        """
        if fold is None or split == "test":
            return [case for case in self.cases if case.split == split]
        known = sorted({case.fold for case in self.cases if case.fold is not None})
        if fold not in known:
            found = f"folds {known[0]}..{known[-1]}" if known else "no folds"
            raise DataError(f"data.fold is {fold}, but the data has {found}; make them with `guidino prepare --folds`")
        return [case for case in self.cases if case.fold is not None and (case.fold == fold) == (split == "val")]


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


class _CaseEntry(TypedDict):
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


class _ManifestEntry(TypedDict):
    """Content of `cases.json`."""

    format: int
    name: str
    classes: Annotated[list[str], Field(min_length=1)]
    source: dict[str, Any]
    cases: list[_CaseEntry]
    ignore_label: NotRequired[Annotated[int, Field(ge=1, le=255)] | None]
    channels: NotRequired[Annotated[list[str], Field(min_length=1)]]
    spacing_mm: NotRequired[Annotated[list[PositiveFloat | None], Field(min_length=3, max_length=3)]]
    statistics: NotRequired[list[_StatisticsEntry]]


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `cases.json` into a folder; paths are stored relative to it, one case a line."""
    version = VOLUME_FORMAT if manifest.is_volumes else MANIFEST_FORMAT
    header = {"format": version, "name": manifest.name, "classes": manifest.classes, "source": manifest.source}
    if manifest.is_volumes:
        header |= {
            "channels": list(manifest.channels),
            "spacing_mm": list(manifest.spacing_mm),
            "statistics": [asdict(item) for item in manifest.statistics],
        }
    if manifest.ignore_label is not None:
        header["ignore_label"] = manifest.ignore_label
    lines = ",\n".join("    " + json.dumps(_case_to_json(case, folder), ensure_ascii=False) for case in manifest.cases)
    text = json.dumps(header, indent=2, ensure_ascii=False).removesuffix("\n}")
    write_text(folder / MANIFEST_NAME, f'{text},\n  "cases": [\n{lines}\n  ]\n}}\n')


def load_manifest(folder: Path) -> Manifest:
    """Read the manifest of a prepared data folder (or the path of its `cases.json`).

    Raises:
        DataError: Not a prepared folder, damaged, or written by a version with another format.
    """
    path = folder if folder.name == MANIFEST_NAME else folder / MANIFEST_NAME
    if not folder.exists():
        raise DataError(f"{folder}: no such folder")
    if not path.is_file():
        raise DataError(
            f"{folder}: no {MANIFEST_NAME}; make it with `guidino prepare {folder} -o DATA` and give DATA instead"
        )
    content = read_json_object(path, hint=_AGAIN)
    if content.get("format", MANIFEST_FORMAT) not in (MANIFEST_FORMAT, VOLUME_FORMAT):
        raise DataError(
            f"{path}: written in format {content['format']!r}, this guidino reads {MANIFEST_FORMAT} (images) and "
            f"{VOLUME_FORMAT} (volumes); {_AGAIN}"
        )
    checked = require_type(content, _ManifestEntry, source=path, hint=_AGAIN)
    cases = [_case_from_json(item, path) for item in checked["cases"]]
    _require_unique_ids(cases, path)
    manifest = Manifest(
        checked["name"],
        checked["classes"],
        cases,
        checked["source"],
        channels=tuple(checked.get("channels", ())),
        spacing_mm=tuple(checked.get("spacing_mm", ())),
        statistics=tuple(ChannelStatistics(**item) for item in checked.get("statistics", ())),
    )
    _require_consistent_volumes(manifest, path)
    ignored = checked.get("ignore_label")
    try:
        return ignore_label(manifest, ignored, source=str(path))
    except ConfigError as error:
        raise DataError(f"{path}: the ignore label is {ignored}, which is a class; {_AGAIN}") from error


def ignore_label(manifest: Manifest, label: int | None, *, source: str) -> Manifest:
    """The manifest with a value of its masks whose pixels do not count; None changes nothing.

    Args:
        manifest: A prepared data set.
        label: Value in its masks, which are 8-bit.
        source: Setting or file that names the value, for messages.

    Raises:
        ConfigError: The value is a class, is above 255, or contradicts the manifest.
    """
    if label is None:
        return manifest
    classes = manifest.classes
    if label < len(classes):
        raise ConfigError(
            f"{source}: the ignore label is {label}, which is class {classes[label]}; give a value that is no class "
            f"({len(classes)} to 255)"
        )
    if label > 255:
        raise ConfigError(f"{source}: the ignore label is {label}, but prepared masks hold values up to 255")
    if manifest.ignore_label not in (None, label):
        raise ConfigError(
            f"{source}: the ignore label is {label}, but the data was prepared with {manifest.ignore_label}; leave the "
            "setting out"
        )
    cases = [replace(case, ignore_label=label) for case in manifest.cases]
    return replace(manifest, cases=cases, ignore_label=label)


def manifest_sha256(path: Path) -> str:
    """SHA-256 of a `cases.json` without the times in it: the same data prepared on another machine has the same."""
    return hashlib.sha256(re.sub(rb'"mtime_ns": -?\d+, ', b"", path.read_bytes())).hexdigest()


def _require_unique_ids(cases: Sequence[Case], path: Path) -> None:
    taken: set[str] = set()
    for case in cases:
        if case.id in taken:
            raise DataError(f"{path}: has two cases of the id {case.id}, and files are named by it; {_AGAIN}")
        taken.add(case.id)


def _require_consistent_volumes(manifest: Manifest, path: Path) -> None:
    """Refuse cases of images among volumes, and volumes with other channels than the data set has."""
    if not manifest.is_volumes:
        return
    if not (manifest.channels and manifest.spacing_mm) or len(manifest.statistics) != len(manifest.channels):
        raise DataError(f"{path}: has volumes, but not the channels, spacing_mm and statistics of them; {_AGAIN}")
    for case in manifest.cases:
        if case.volume is None:
            raise DataError(f"{path}: case {case.id} is an image among volumes; prepare images and volumes apart")
        if len(case.volume.statistics) != len(manifest.channels):
            found, expected = len(case.volume.statistics), len(manifest.channels)
            raise DataError(f"{path}: case {case.id} has {found} channels, the data set {expected}; {_AGAIN}")


def require_cases(cases: Sequence[Case], split: str, folder: Path) -> Sequence[Case]:
    """The cases, or a `DataError` if there are none."""
    if not cases:
        raise DataError(f"{folder}: no cases in the {split} split; run `guidino prepare` with another --split")
    return cases


def count_empty(cases: Sequence[Case]) -> int:
    """Number of labelled cases without a pixel of foreground."""
    return sum(case.mask is not None and case.foreground == 0 for case in cases)


def _case_to_json(case: Case, folder: Path) -> dict[str, Any]:
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


def _volume_from_json(item: "_VolumeEntry | None", folder: Path) -> StoredVolume | None:
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


def _record_from_json(item: "_FileEntry | None") -> FileRecord | None:
    return None if item is None else FileRecord(item["size"], item["sha256"], item.get("mtime_ns"))


def _case_from_json(item: "_CaseEntry", path: Path) -> Case:
    name, folder = item["id"], path.parent
    problem = describe_unsafe_name(name)
    if problem:
        raise DataError(f"{path}: the case id {shorten_name(name)!r} {problem}, and files are named by it; {_AGAIN}")
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
