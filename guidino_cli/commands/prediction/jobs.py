"""Inputs of `predict`: the images of files and folders, and the share of this process."""

import os
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from guidino_cli.data.file_records import require_unchanged_files
from guidino_cli.data.images import is_image, list_images
from guidino_cli.data.manifest import is_prepared, load_manifest
from guidino_cli.data.volumes.nifti import is_volume
from guidino_cli.errors import DataError
from guidino_cli.files import describe_unsafe_name, shorten_name
from guidino_cli.options.parsing import parse_shard
from guidino_cli.progress import pluralize


class Job(Protocol):
    """Inputs of a prediction.

    Attributes:
        name: Path of its mask below the output folder, without suffix; `/` separates folders.
        image: Path of the file, or of the first of several, for messages and records.
        problem: Why it cannot be predicted, "" if nothing is known.
    """

    @property
    def name(self) -> str: ...

    @property
    def image(self) -> str: ...

    @property
    def problem(self) -> str: ...


AnyJob = TypeVar("AnyJob", bound=Job)


class PredictionJob(NamedTuple):
    """An image to predict.

    Attributes:
        name: Path of its mask below the output folder, without suffix; `/` separates folders.
        image: Path of the file, as text to save memory: there may be a hundred thousand of them.
        problem: Why it cannot be predicted, "" if nothing is known.
    """

    name: str
    image: str
    problem: str = ""


@dataclass(frozen=True)
class Shard:
    """One of several processes that share the images; the first is number 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}of{self.count}"


def find_jobs(places: Sequence[Path], split: str, *, recursive: bool = False) -> list[PredictionJob]:
    """Find the images of files, folders or prepared data folders (one split), in their order.

    Raises:
        DataError: A path holds no image, or two images would be written to one mask.
    """
    jobs = (job for place in places for job in jobs_at(place, split, recursive=recursive))
    return unique_jobs(jobs, suffix=".png", places=len(places))


def unique_jobs(jobs: Iterable[AnyJob], *, suffix: str, places: int) -> list[AnyJob]:
    """Jobs without repetition, in their order.

    Args:
        jobs: Of all places.
        suffix: Of the masks.
        places: Number of places on the command line.

    Raises:
        DataError: Two would be written to one mask.
    """
    found: dict[str, AnyJob] = {}
    for job in jobs:
        other = found.setdefault(fold_path(job.name), job)
        if other.image != job.image:
            ways = "predict them apart" if places > 1 else "rename one of them"
            raise DataError(f"{other.image} and {job.image}: both would be written as {job.name}{suffix}; {ways}")
    return list(found.values())


def describe_unsafe_job(job: Job) -> str:
    """Why an image cannot be predicted under its name or those of the folders above it; "" if it can."""
    for name in job.name.split("/"):
        if problem := describe_unsafe_name(name):
            return f"{job.image}: its mask cannot be named {shorten_name(name)!r}, which {problem}; rename it"
    return ""


def fold_path(path: str) -> str:
    """A path as Windows and macOS compare it, so that masks can be moved there."""
    return unicodedata.normalize("NFC", path).casefold()


def jobs_at(place: Path, split: str, *, recursive: bool) -> Iterator[PredictionJob]:
    """The images of a file, a folder or a prepared data folder (one split).

    Raises:
        DataError: There is none.
    """
    if is_prepared(place):
        chosen = [case for case in load_manifest(place).cases if split in {"all", case.split}]
        if not chosen:
            raise DataError(f"{place}: no cases in split '{split}'; expected train, val, test or all")
        if chosen[0].volume is not None:
            raise DataError(f"{place}: holds volumes, but the run was trained on images; give a run on volumes")
        require_unchanged_files(chosen, place, masks=False)
        yield from (PredictionJob(case.id, str(case.image)) for case in chosen)
    elif place.is_dir():
        found = False
        for path in list_images(place, recursive=recursive):
            found = True
            yield PredictionJob(os.path.splitext(path)[0], os.path.join(place, path))
        if not found:
            if volumes := _describe_volumes(place):
                raise DataError(f"{place}: {volumes}")
            where = "in this folder or below it" if recursive else "directly in this folder (--recursive looks below)"
            raise DataError(f"{place}: no images (PNG, JPEG, TIFF, BMP, GIF or WebP) {where}")
    elif place.is_file() and is_image(place):
        yield PredictionJob(place.stem, str(place))
    else:
        raise DataError(f"{place}: {_describe_other(place)}")


def _describe_other(place: Path) -> str:
    """Description of an input that is not an image."""
    if not place.exists():
        return "no such file or folder"
    return _describe_volumes(place) or "not an image file (PNG, JPEG, TIFF, BMP, GIF or WebP)"


def _describe_volumes(place: Path) -> str:
    """Say that volumes are not predicted, and how to cut a file or the files of a folder into images; "" for others."""
    from guidino_cli.preparation.volume_kinds import describe_other_volumes, other_kind

    cutting = shlex.join(["guidino", "slices", str(place if place.is_dir() else place.parent), "-o", "SLICES"])
    advice = (
        f"need a run that was trained on volumes; or cut them into images (`{cutting}`, for MR with `--window auto`) "
        "and predict SLICES with --recursive"
    )
    if place.is_file():
        kind = "NIfTI" if is_volume(place) else other_kind(place)
        convert = "; convert them to NIfTI first" + (" (dcm2niix)" if kind == "DICOM" else "")
        return f"is a {kind} file; volumes {advice}{'' if kind == 'NIfTI' else convert}" if kind else ""
    count = sum(is_volume(path) for path in place.rglob("*"))
    if count:
        return f"holds {pluralize(count, 'NIfTI file')}; volumes {advice}"
    others = describe_other_volumes(place)
    return f"holds volumes, {others}; volumes {advice}" if others else ""


def select_shard(text: str | None) -> Shard:
    """The shard of `--shard 2/8`; without it the rank under torchrun, or else everything.

    Raises:
        ConfigError: See `parse_shard`.
    """
    if text is None:
        return Shard(int(os.environ.get("RANK", "0")) + 1, int(os.environ.get("WORLD_SIZE", "1")))
    return Shard(*parse_shard("--shard", text))


def local_rank_device(name: str | None) -> str | None:
    """The GPU of this rank under torchrun, unless a device is named; "cuda" is no certain one."""
    local = os.environ.get("LOCAL_RANK")
    if name not in {None, "cuda"} or local is None:
        return name
    import torch

    return f"cuda:{local}" if torch.cuda.is_available() else name
