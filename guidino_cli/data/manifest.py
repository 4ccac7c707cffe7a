"""Manifest of a prepared data set, `cases.json`: written by `prepare`, read by every other command."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from guidino_cli.data.manifest_entries import AGAIN, ManifestEntry, case_from_json, case_to_json
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import write_text
from guidino_cli.json_files import read_json_object, require_type
from guidino_cli.types import Case, ChannelStatistics

MANIFEST_FORMAT = 1
VOLUME_FORMAT = 2
"""Format of a data set of volumes; one of images is still written in format 1."""
INSTANCE_FORMAT = 3
"""Format of volumes, or of pictures stored as volumes, whose masks hold instance numbers."""
MANIFEST_NAME = "cases.json"


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
        statistics: Intensities of the foreground of the training volumes, one per channel; () for images.
        onto: Position of the channel whose grid the others were resampled to.
        has_instances: Whether masks hold instance numbers instead of classes; `classes` are then background, instance.
    """

    name: str
    classes: list[str]
    cases: list[Case]
    source: dict[str, Any] = field(default_factory=dict)
    ignore_label: int | None = None
    channels: tuple[str, ...] = ()
    spacing_mm: tuple[float | None, ...] = ()
    statistics: tuple[ChannelStatistics, ...] = ()
    has_instances: bool = False
    onto: int = 0

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


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `cases.json` into a folder; paths are stored relative to it, one case a line."""
    version = VOLUME_FORMAT if manifest.is_volumes else MANIFEST_FORMAT
    version = INSTANCE_FORMAT if manifest.has_instances else version
    header = {"format": version, "name": manifest.name, "classes": manifest.classes, "source": manifest.source}
    if manifest.is_volumes:
        header |= {
            "channels": list(manifest.channels),
            "spacing_mm": list(manifest.spacing_mm),
            "statistics": [asdict(item) for item in manifest.statistics],
        }
    if manifest.onto:
        header["onto"] = manifest.onto
    if manifest.ignore_label is not None:
        header["ignore_label"] = manifest.ignore_label
    lines = ",\n".join("    " + json.dumps(case_to_json(case, folder), ensure_ascii=False) for case in manifest.cases)
    text = json.dumps(header, indent=2, ensure_ascii=False).removesuffix("\n}")
    write_text(folder / MANIFEST_NAME, f'{text},\n  "cases": [\n{lines}\n  ]\n}}\n')


def is_prepared(place: Path) -> bool:
    """Whether a path is a folder that `guidino prepare` wrote, or its cases.json."""
    return place.name == MANIFEST_NAME or (place / MANIFEST_NAME).is_file()


def load_manifest(folder: Path, *, takes_instances: bool = False) -> Manifest:
    """Read the manifest of a prepared data folder (or the path of its `cases.json`).

    Args:
        folder: The folder.
        takes_instances: Whether the caller knows what to do with instance numbers; to others they would be classes.

    Raises:
        DataError: Not a prepared folder, damaged, written by a version with another format, or of instances.
    """
    path = folder if folder.name == MANIFEST_NAME else folder / MANIFEST_NAME
    if not folder.exists():
        raise DataError(f"{folder}: no such folder")
    if not path.is_file():
        raise DataError(
            f"{folder}: no {MANIFEST_NAME}; make it with `guidino prepare {folder} -o DATA` and give DATA instead"
        )
    content = read_json_object(path, hint=AGAIN)
    version = content.get("format", MANIFEST_FORMAT)
    if version not in (MANIFEST_FORMAT, VOLUME_FORMAT, INSTANCE_FORMAT):
        raise DataError(
            f"{path}: written in format {version!r}, this guidino reads {MANIFEST_FORMAT} (images) and "
            f"{VOLUME_FORMAT} (volumes); {AGAIN}"
        )
    if version == INSTANCE_FORMAT and not takes_instances:
        raise DataError(
            f"{path}: masks hold instance numbers, which train (with model.target=affinities), predict and evaluate "
            "take; for classes run `guidino prepare` again without --instances"
        )
    checked = require_type(content, ManifestEntry, source=path, hint=AGAIN)
    cases = [case_from_json(item, path) for item in checked["cases"]]
    _require_unique_ids(cases, path)
    manifest = Manifest(
        checked["name"],
        checked["classes"],
        cases,
        checked["source"],
        channels=tuple(checked.get("channels", ())),
        spacing_mm=tuple(checked.get("spacing_mm", ())),
        statistics=tuple(ChannelStatistics(**item) for item in checked.get("statistics", ())),
        has_instances=version == INSTANCE_FORMAT,
        onto=checked.get("onto", 0),
    )
    _require_consistent_volumes(manifest, path)
    ignored = checked.get("ignore_label")
    try:
        return ignore_label(manifest, ignored, source=str(path))
    except ConfigError as error:
        raise DataError(f"{path}: the ignore label is {ignored}, which is a class; {AGAIN}") from error


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
            raise DataError(f"{path}: has two cases of the id {case.id}, and files are named by it; {AGAIN}")
        taken.add(case.id)


def _require_consistent_volumes(manifest: Manifest, path: Path) -> None:
    """Refuse cases of images among volumes, and volumes with other channels than the data set has."""
    if not manifest.is_volumes:
        return
    if not (manifest.channels and manifest.spacing_mm) or len(manifest.statistics) != len(manifest.channels):
        raise DataError(f"{path}: has volumes, but not the channels, spacing_mm and statistics of them; {AGAIN}")
    for case in manifest.cases:
        if case.volume is None:
            raise DataError(f"{path}: case {case.id} is an image among volumes; prepare images and volumes apart")
        if len(case.volume.statistics) != len(manifest.channels):
            found, expected = len(case.volume.statistics), len(manifest.channels)
            raise DataError(f"{path}: case {case.id} has {found} channels, the data set {expected}; {AGAIN}")


def require_cases(cases: Sequence[Case], split: str, folder: Path) -> Sequence[Case]:
    """The cases, or a `DataError` if there are none."""
    if not cases:
        raise DataError(f"{folder}: no cases in the {split} split; run `guidino prepare` with another --split")
    return cases


def count_empty(cases: Sequence[Case]) -> int:
    """Number of labelled cases without a pixel of foreground."""
    return sum(case.mask is not None and case.foreground == 0 for case in cases)
