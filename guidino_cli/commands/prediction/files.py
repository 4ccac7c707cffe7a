"""Input images of `predict`, their distribution over processes, and the output files of each."""

import os
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from torch import Tensor

from guidino_cli.commands.prediction.risk import RiskRegions
from guidino_cli.data.cases import read_label_map
from guidino_cli.data.file_records import require_unchanged_files
from guidino_cli.data.image_writing import write_label_map, write_label_rows, write_png
from guidino_cli.data.images import is_image, list_images
from guidino_cli.data.manifest import is_prepared, load_manifest
from guidino_cli.data.postprocess import PostprocessRule, postprocess_labels
from guidino_cli.data.regions import RegionReader
from guidino_cli.data.volumes.nifti import is_volume
from guidino_cli.engine.prediction.predictor import Segmentation
from guidino_cli.errors import DataError
from guidino_cli.files import describe_unsafe_name, shorten_name, write_atomically
from guidino_cli.options.parsing import parse_shard
from guidino_cli.options.prediction import PredictOptions
from guidino_cli.plots.outlines import add_legend_below, draw_outlines
from guidino_cli.progress import pluralize
from guidino_cli.types import width_by_height

GUIDE_LEVELS = 65535
"""Value of 1 in a saved guide, a grey PNG of 16 bits."""
RECORD_FILES = ("predictions.json", "predictions.jsonl", "failed.jsonl")
_ADVICE = "rename one of them, or predict them into another folder"


class Job(Protocol):
    """What is predicted.

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
        other = found.setdefault(_folded(job.name), job)
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


def _folded(path: str) -> str:
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
    """What something that is no image is."""
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


def _real_path(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(_real_folder(folder), name)


@lru_cache
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


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


@dataclass(frozen=True)
class MaskWriter:
    """Writes masks and the outputs beside them.

    Attributes:
        out: Folder of the masks.
        options: Which outputs are written, each kind in a subfolder, and the values of the masks.
        rules: Post-processing by class index.
        classes: Class names, the background first.
        suffix: Of masks and guides.
        risk: Outer and inner masks that are written beside them, or None.
    """

    out: Path
    options: PredictOptions
    rules: dict[int, PostprocessRule]
    classes: Sequence[str] = ()
    suffix: str = ".png"
    risk: RiskRegions | None = None

    def mask_path(self, job: Job) -> Path:
        """The mask of an image or a volume; names may contain dots."""
        return self.out / f"{job.name}{self.suffix}"

    def is_written(self, job: Job) -> bool:
        """Whether the mask of an image and all requested outputs beside it exist."""
        return all(path.is_file() for path in self._paths(job))

    def remove(self, job: Job) -> None:
        """Remove the mask of an image and the requested outputs beside it."""
        for path in self._paths(job):
            path.unlink(missing_ok=True)

    def _paths(self, job: Job) -> list[Path]:
        return [self.out / path for path in self._relative_paths(job)]

    def _relative_paths(self, job: Job, *, guide_maps: int = 1) -> list[str]:
        """Paths below the output folder of the mask and requested outputs; of guide maps, all of `guide_maps`."""
        outputs = {
            f"{job.name}{self.suffix}": True,
            f"guides/{job.name}{self.suffix}": self.options.save_guide,
            f"probabilities/{job.name}.npz": self.options.save_probabilities,
            f"overlays/{job.name}.png": self.options.overlay,
        }
        if guide_maps > 1:
            maps = range(1, guide_maps + 1)
            outputs |= {f"guides/class_{index}/{job.name}{self.suffix}": self.options.save_guide for index in maps}
        regions = [] if self.risk is None else self.risk.regions
        outputs |= {f"{region.folder}/{job.name}{self.suffix}": True for region in regions}
        return [path for path, is_requested in outputs.items() if is_requested]

    def _region_paths(self, job: Job, regions: Sequence[np.ndarray]) -> list[tuple[Path, np.ndarray]]:
        """The outer and inner masks with their paths."""
        wanted = () if self.risk is None else self.risk.regions
        paths = [self.out / region.folder / f"{job.name}{self.suffix}" for region in wanted]
        return list(zip(paths, regions, strict=True))

    def write(self, job: PredictionJob, result: Segmentation, regions: Sequence[np.ndarray] = ()) -> bool:
        """Write the outputs of an image; the mask comes last, so that its presence means that all are there.

        Args:
            job: Names them.
            result: Of the network.
            regions: (H, W) uint8 of each of `risk.regions`, 0 and 1.

        Returns:
            Whether the mask has any foreground.
        """
        labels = postprocess_labels(result.labels, self.rules)
        if self.options.save_guide and result.guide is not None:
            self._write_guide(job, _guide_levels(result.guide), write_png)
        if self.options.save_probabilities and result.probabilities is not None:
            self._write_probabilities(job, result.probabilities.numpy().astype(np.float16))
        if self.options.overlay:
            drawn = add_legend_below(draw_outlines(result.pixels, labels, framed=True), self.classes)
            write_png(self.out / "overlays" / f"{job.name}.png", drawn)
        for path, values in self._region_paths(job, regions):
            write_label_map(path, values * self._factor)
        write_label_map(self.mask_path(job), labels * self._factor)
        return bool(labels.any())

    def read_mask(self, job: Job) -> np.ndarray:
        """Class indices (H, W) of a mask that was written.

        Raises:
            DataError: It is missing or damaged.
        """
        return read_label_map(self.mask_path(job)) // self._factor

    def _write_guide(self, job: Job, maps: np.ndarray, write: Callable[[Path, np.ndarray], None]) -> None:
        """Write the map that gates and, where each class has a map, every map in the folder of its class."""
        folder = self.out / "guides"
        write(folder / f"{job.name}{self.suffix}", maps.max(axis=0))
        if len(maps) > 1:
            for index, class_map in enumerate(maps, start=1):
                write(folder / f"class_{index}" / f"{job.name}{self.suffix}", class_map)

    def _write_probabilities(self, job: Job, content: np.ndarray) -> None:
        write_atomically(
            self.out / "probabilities" / f"{job.name}.npz",
            lambda path: np.savez_compressed(path, probabilities=content),
        )

    def write_rows(self, job: PredictionJob, size_hw: tuple[int, int], rows: Iterable[np.ndarray]) -> None:
        """Write the mask of a large image, (rows, W) uint8 at a time."""

        def scaled() -> Iterator[np.ndarray]:
            for band in rows:
                yield band * self._factor

        write_label_rows(self.mask_path(job), size_hw, scaled())

    def require_only_mask(self, regions: RegionReader) -> None:
        """Refuse outputs that need the whole of an image that is predicted in strips.

        Raises:
            DataError: Something besides the mask is requested.
        """
        requested = {
            "--save-guide": self.options.save_guide,
            "--save-probabilities": self.options.save_probabilities,
            "--overlay": self.options.overlay,
            "--post": bool(self.rules),
            "--risk": self.risk is not None,
        }
        names = [name for name, is_requested in requested.items() if is_requested]
        if names:
            source, size = regions.geometry.source, width_by_height(regions.geometry.shape)
            raise DataError(
                f"{source}: {size} px are predicted in strips to save memory, which does not go with "
                f"{' and '.join(names)}; leave that out, or raise predict.memory_gb with --set"
            )

    def require_distinct_paths(self, jobs: Sequence[Job], *, guide_maps: int) -> None:
        """Refuse images of which one output would replace another, or an input.

        Args:
            jobs: All images.
            guide_maps: Number of maps of the guide.

        Raises:
            DataError: Two outputs have one path, a file would have to be a folder, or an output is an input.
        """
        images = {_real_path(job.image): job.image for job in jobs}
        out = os.path.realpath(self.out)
        owners: dict[str, str] = {_folded(name): f"the record {name}" for name in RECORD_FILES}
        for job in jobs:
            for path in self._relative_paths(job, guide_maps=guide_maps):
                image = images.get(os.path.join(out, path))
                if image is not None:
                    raise DataError(
                        f"{image}: is an input and would be replaced by an output of {job.image}; {_ADVICE}"
                    )
                other = owners.setdefault(_folded(path), job.image)
                if other != job.image:
                    raise DataError(f"{other} and {job.image}: both would be written as {path}; {_ADVICE}")
        for job in jobs:
            for folder in PurePosixPath(job.name).parents:
                other = owners.get(_folded(str(folder)), "")
                if other:
                    raise DataError(f"{other} and {job.image}: {folder} would be a file and a folder; {_ADVICE}")

    @property
    def _factor(self) -> int:
        return 255 if self.options.values == "255" else 1


def _guide_levels(guide: Tensor) -> np.ndarray:
    """(G, H, W) uint16 of a guide in [0, 1]: eight bits would leave a handful of levels of a mean over prototypes."""
    levels = (guide.numpy().clip(0, 1).astype(np.float64) * GUIDE_LEVELS).round()
    return np.asarray(levels.astype(np.uint16))
