"""Volumes whose guides are drawn: prepared cases, or files as they are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from guidino_cli.data.manifest import MANIFEST_NAME, load_manifest
from guidino_cli.data.volumes.reading import VOLUME_FILE_SUFFIXES, is_volume_file
from guidino_cli.errors import DataError
from guidino_cli.evaluation.names import file_stem
from guidino_cli.progress import join_first
from guidino_cli.types import StoredVolume, VolumeSource

_CHANNEL_DIGITS = 4
"""nnU-Net ends the names of the channels of a case with _0000, _0001, ..."""


@dataclass(frozen=True)
class VolumeInput:
    """One volume.

    Attributes:
        name: Title and stem of its figure.
        path: File of its first channel, or its DICOM folder.
        sources: Its channels.
        stored: Its arrays in a prepared folder; None for files as they are.
        ignore_label: Value in the stored labels of voxels that do not count.
    """

    name: str
    path: Path
    sources: tuple[VolumeSource, ...]
    stored: StoredVolume | None = None
    ignore_label: int | None = None


def list_input_volumes(paths: Sequence[Path], split: str, *, channels: int) -> list[VolumeInput]:
    """List the volumes of prepared data folders, files, folders of files and DICOM folders, each once.

    Args:
        paths: What was given.
        split: Of prepared data.
        channels: Number of channels that the network sees.

    Raises:
        DataError: A path does not exist or holds no volume, or a case has not all channels.
    """
    found: dict[Path, VolumeInput] = {}
    for path in paths:
        for item in _volumes_at(path, split, channels):
            found.setdefault(item.path.resolve(), item)
    return _with_unique_names(list(found.values()))


def _volumes_at(place: Path, split: str, channels: int) -> list[VolumeInput]:
    if (place / MANIFEST_NAME).is_file() or place.name == MANIFEST_NAME:
        return _prepared_volumes(place, split)
    if place.is_dir():
        files = sorted(path for path in place.iterdir() if is_volume_file(path))
        # A folder without volume files is taken for a DICOM series.
        return _group_channels(files, channels) if files else [VolumeInput(place.name, place, (VolumeSource(place),))]
    if not place.is_file():
        raise DataError(f"{place}: no such file or folder")
    if not is_volume_file(place):
        raise DataError(
            f"{place}: no volume by its name ({', '.join(VOLUME_FILE_SUFFIXES)}), but the run was trained on volumes"
        )
    return _group_channels([place], channels)


def _prepared_volumes(place: Path, split: str) -> list[VolumeInput]:
    chosen = [case for case in load_manifest(place).cases if split in {"all", case.split}]
    if not chosen:
        raise DataError(f"{place}: no cases in split '{split}'; expected train, val, test or all")
    inputs = [
        VolumeInput(case.id, case.image, case.volume.sources, case.volume, case.ignore_label)
        for case in chosen
        if case.volume is not None
    ]
    if not inputs:
        raise DataError(f"{place}: holds images, but the run was trained on volumes")
    return inputs


def _group_channels(files: Sequence[Path], channels: int) -> list[VolumeInput]:
    """One input per file or, where nnU-Net's endings number the channels, per case."""
    inputs = []
    for path in files:
        stem = file_stem(path)
        case, number = stem[: -_CHANNEL_DIGITS - 1], stem[-_CHANNEL_DIGITS - 1 :]
        if channels == 1 or number[:1] != "_" or not number[1:].isdigit():
            inputs.append(VolumeInput(stem, path, (VolumeSource(path),)))
        elif int(number[1:]) == 0:
            ending = path.name[len(stem) :]
            parts = [path.with_name(f"{case}_{channel:0{_CHANNEL_DIGITS}d}{ending}") for channel in range(channels)]
            if missing := [part.name for part in parts if not part.is_file()]:
                raise DataError(f"{path}: the run sees {channels} channels, but {join_first(missing)} is not beside it")
            inputs.append(VolumeInput(case, path, tuple(VolumeSource(part) for part in parts)))
    if not inputs:
        raise DataError(f"{files[0]}: give the first channel of the case, whose name ends with _0000")
    return inputs


def _with_unique_names(inputs: Sequence[VolumeInput]) -> list[VolumeInput]:
    """The same with a number after names that come again."""
    taken: set[str] = set()
    result = []
    for item in inputs:
        name, number = item.name, 1
        while name.lower() in taken:
            number += 1
            name = f"{item.name}_{number}"
        taken.add(name.lower())
        result.append(replace(item, name=name))
    return result
