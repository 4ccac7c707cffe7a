"""Volumes to predict: files and folders of them, prepared data, and DICOM series."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from guidino_cli.commands.prediction.jobs import unique_jobs
from guidino_cli.data.file_records import require_unchanged_files
from guidino_cli.data.images import is_image
from guidino_cli.data.manifest import is_prepared, load_manifest
from guidino_cli.data.volumes.dicom.datasets import looks_like_dicom
from guidino_cli.data.volumes.dicom.series import Series, find_series
from guidino_cli.data.volumes.reading import is_volume_file
from guidino_cli.errors import DataError
from guidino_cli.files import file_stem
from guidino_cli.options.prediction import PredictOptions
from guidino_cli.progress import join_first, pluralize
from guidino_cli.types import VolumeSource

_CHANNEL = re.compile(r"_(\d{4})$")


@dataclass(frozen=True)
class FileKind:
    """The files that a run takes.

    Attributes:
        noun: What one of them holds.
        formats: Them, in words.
        mask_suffix: Of the masks that are written.
        is_file: Whether a path looks like one of them.
        is_other: Whether a path looks like what runs of the other kind take.
    """

    noun: str
    formats: str
    mask_suffix: str
    is_file: Callable[[Path], bool]
    is_other: Callable[[Path], bool]


VOLUMES = FileKind(
    "volume",
    "NIfTI, NRRD or MetaImage files, or DICOM series",
    ".nii.gz",
    is_volume_file,
    is_image,
)
PICTURES = FileKind("image", "images", ".png", is_image, is_volume_file)


class VolumeJob(NamedTuple):
    """A volume to predict.

    Attributes:
        name: Path of its mask below the output folder, without suffix; `/` separates folders.
        image: Path of the file, or of the first channel's; of a DICOM series, its folder and its key.
        sources: One for each channel, or one that has all.
        problem: Why it cannot be predicted, "" if nothing is known.
    """

    name: str
    image: str
    sources: tuple[VolumeSource, ...]
    problem: str = ""


def find_volume_jobs(
    places: Sequence[Path], channels: Sequence[str], options: PredictOptions, kind: FileKind = VOLUMES
) -> list[VolumeJob]:
    """Find the volumes of files, folders, prepared data folders (one split) or DICOM folders, in their order.

    Args:
        places: Of the command line.
        channels: Names of the channels that the run was trained on.
        options: Split, series, and whether subfolders are searched.
        kind: What the run was trained on.

    Raises:
        DataError: A path holds no volume, other channels than the run's, or two would be written to one mask.
        DependencyError: pydicom is not installed.
    """
    jobs = (job for place in places for job in volume_jobs_at(place, channels, options, kind))
    return unique_jobs(jobs, suffix=kind.mask_suffix, places=len(places))


def volume_jobs_at(
    place: Path, channels: Sequence[str], options: PredictOptions, kind: FileKind
) -> Iterator[VolumeJob]:
    """The volumes of one place; see `find_volume_jobs`."""
    if not place.exists():
        raise DataError(f"{place}: no such file or folder")
    if is_prepared(place):
        yield from _prepared(place, channels, options.split, kind)
    elif place.is_dir():
        files = _list_files(place, kind, recursive=options.recursive)
        if files:
            yield from _grouped(files, place, channels)
        elif kind is PICTURES:
            raise DataError(f"{place}: no image directly in this folder; --recursive looks into its subfolders")
        else:
            yield from _dicom(place, channels, options)
    elif kind.is_file(place):
        yield from _grouped(_with_other_channels(place, len(channels), kind), place.parent, channels)
    elif kind.is_other(place):
        found, wanted = ("a volume", "images") if kind is PICTURES else ("an image", "volumes")
        raise DataError(f"{place}: is {found}, but the run was trained on {wanted}; give {kind.formats}")
    elif kind is VOLUMES and looks_like_dicom(place):
        raise DataError(f"{place}: is one file of a DICOM series; give the folder of the series")
    else:
        raise DataError(f"{place}: not {'an' if kind is PICTURES else 'a'} {kind.noun}; expected {kind.formats}")


def _prepared(place: Path, channels: Sequence[str], split: str, kind: FileKind) -> Iterator[VolumeJob]:
    manifest = load_manifest(place, takes_instances=True)
    chosen = [case for case in manifest.cases if split in {"all", case.split}]
    if not chosen:
        raise DataError(f"{place}: no cases in split '{split}'; expected train, val, test or all")
    if not manifest.is_volumes:
        how = "volumes" if kind is VOLUMES else "images with all their channels and bits (`prepare --store npy`)"
        raise DataError(f"{place}: holds images, but the run was trained on {how}; give a run on images")
    if list(manifest.channels) != list(channels):
        raise DataError(
            f"{place}: has the channels {', '.join(manifest.channels)}, but the run was trained on "
            f"{', '.join(channels)}; prepare the same channels in the same order"
        )
    require_unchanged_files(chosen, place, masks=False)
    for case in chosen:
        if case.volume is not None:
            yield VolumeJob(case.id, str(case.image), case.volume.sources)


def _list_files(folder: Path, kind: FileKind, *, recursive: bool) -> list[Path]:
    found = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(path for path in found if kind.is_file(path) and path.is_file())


def _with_other_channels(path: Path, count: int, kind: FileKind) -> list[Path]:
    """The file, and those of its other channels beside it (`x_0001.nii.gz`), if the run has several."""
    match = _CHANNEL.search(file_stem(path))
    if count == 1 or match is None:
        return [path]
    start = file_stem(path)[: match.start()]
    return [
        item
        for item in _list_files(path.parent, kind, recursive=False)
        if re.fullmatch(re.escape(start) + r"_\d{4}", file_stem(item))
    ]


def _grouped(files: list[Path], root: Path, channels: Sequence[str]) -> Iterator[VolumeJob]:
    """One job a file, or one for the files of all channels where all are numbered as nnU-Net does (`x_0000`)."""
    if not all(_CHANNEL.search(file_stem(path)) for path in files):
        for path in files:
            name = (path.parent / file_stem(path)).relative_to(root).as_posix()
            yield VolumeJob(name, str(path), (VolumeSource(path),))
        return
    cases: dict[str, dict[int, Path]] = {}
    for path in files:
        stem = file_stem(path)
        name = (path.parent / stem[:-5]).relative_to(root).as_posix()
        other = cases.setdefault(name, {}).setdefault(int(stem[-4:]), path)
        if other != path:
            raise DataError(f"{other} and {path}: both are channel {stem[-4:]} of {name}; remove one of them")
    for name, found in cases.items():
        numbers = sorted(found)
        first = str(found[numbers[0]])
        problem = ""
        if numbers != list(range(len(channels))):
            has = ", ".join(f"_{number:04d}" for number in numbers)
            wanted = ", ".join(f"_{number:04d} ({channel})" for number, channel in enumerate(channels))
            problem = f"{first}: the case has the files {has}, but the run was trained on {wanted}"
        yield VolumeJob(name, first, tuple(VolumeSource(found[number]) for number in numbers), problem)


def _dicom(place: Path, channels: Sequence[str], options: PredictOptions) -> Iterator[VolumeJob]:
    """The series of a folder: its only one, or those that `--series` chooses, one for each channel of a patient."""
    if not _holds_dicom(place):
        below = "" if options.recursive else "; --recursive looks into its subfolders"
        images = " (it holds images)" if any(map(is_image, place.iterdir())) else ""
        raise DataError(f"{place}: no volume directly in this folder{images}; expected {VOLUMES.formats}{below}")
    series = find_series(place).series
    wanted = [part.strip() for part in options.series.split(",")] if options.series else []
    if wanted and len(wanted) != len(channels):
        raise DataError(
            f"--series {options.series}: names {len(wanted)} series, but the run was trained on "
            f"{pluralize(len(channels), 'channel')} ({', '.join(channels)}); name one for each"
        )
    if not wanted:
        if len(series) != len(channels) or len(channels) > 1:
            raise DataError(
                f"{place}: holds {pluralize(len(series), 'DICOM series', 'DICOM series')} ({_list_series(series)}); "
                f"name {'one' if len(channels) == 1 else 'one for each channel'} with --series"
            )
        wanted = [series[0].key]
    patients = dict.fromkeys(item.patient for item in series)
    found = False
    for patient in patients:
        own = [item for item in series if item.patient == patient]
        parts = [[item for item in own if _matches(item, text)] for text in wanted]
        if not any(parts):
            continue
        if len(wanted) == 1:
            for item in parts[0]:
                found = True
                yield _job(place, (item,))
            continue
        for text, items in zip(wanted, parts, strict=True):
            if len(items) != 1:
                raise DataError(
                    f"{place}: --series {text} fits {pluralize(len(items), 'series', 'series')} of patient {patient} "
                    f"({_list_series(items or own)}); give a key"
                )
        found = True
        yield _job(place, tuple(items[0] for items in parts))
    if not found:
        raise DataError(f"{place}: --series {options.series} fits none of its series ({_list_series(series)})")


def _job(place: Path, series: tuple[Series, ...]) -> VolumeJob:
    # Folders and descriptions may name the patient; keys do not.
    return VolumeJob(
        series[0].key, f"{place} series {series[0].key}", tuple(VolumeSource(item.folder, item.key) for item in series)
    )


def _matches(series: Series, text: str) -> bool:
    return text == series.key or text.casefold() in series.title.casefold() or text.upper() == series.modality.upper()


def _list_series(series: Sequence[Series]) -> str:
    return join_first([f"{item.key}: {item.modality} {item.title}".strip() for item in series])


def _holds_dicom(place: Path) -> bool:
    return any(path.is_file() and looks_like_dicom(path) for path in place.rglob("*"))
