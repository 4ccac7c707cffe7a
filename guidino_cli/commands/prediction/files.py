"""Input and output files of `predict`: which images, this process's share of them, and what is written for each."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from guidino_cli.data.images import is_image, list_images, write_label_map, write_label_rows
from guidino_cli.data.manifest import MANIFEST_NAME, load_manifest
from guidino_cli.data.postprocess import PostprocessRule, postprocess_labels
from guidino_cli.data.regions import RegionReader
from guidino_cli.engine.prediction.predictor import Segmentation
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import write_atomically
from guidino_cli.plots.panels import draw_outlines
from guidino_cli.types import width_by_height


class PredictionJob(NamedTuple):
    """An image to predict.

    Attributes:
        name: Of its mask below the output folder, without ending; `/` separates folders.
        image: Path of the file, as text: a hundred thousand of them are held.
    """

    name: str
    image: str


@dataclass(frozen=True)
class Shard:
    """One of several processes that share the images; the first is number 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}of{self.count}"


def find_jobs(places: Sequence[Path], split: str, *, recursive: bool = False) -> list[PredictionJob]:
    """Images of files, folders or prepared data folders (one split), in their order.

    Raises:
        DataError: A place holds no image, or two images would be written to one mask.
    """
    found: dict[str, str] = {}
    for place in places:
        for job in _jobs_at(place, split, recursive=recursive):
            other = found.setdefault(job.name, job.image)
            if other != job.image:
                ways = "predict them apart" if len(places) > 1 else "rename one of them"
                raise DataError(f"{other} and {job.image}: both would be written as {job.name}.png; {ways}")
    return [PredictionJob(name, image) for name, image in found.items()]


def _jobs_at(place: Path, split: str, *, recursive: bool) -> Iterator[PredictionJob]:
    if (place / MANIFEST_NAME).is_file() or place.name == MANIFEST_NAME:
        cases = load_manifest(place).cases
        chosen = [PredictionJob(case.id, str(case.image)) for case in cases if split in {"all", case.split}]
        if not chosen:
            raise DataError(f"{place}: no cases in split '{split}'; expected train, val, test or all")
        yield from chosen
    elif place.is_dir():
        found = False
        for path in list_images(place, recursive=recursive):
            found = True
            yield PredictionJob(os.path.splitext(path)[0], os.path.join(place, path))
        if not found:
            where = "in this folder or below it" if recursive else "directly in this folder (--recursive looks below)"
            raise DataError(f"{place}: no images (PNG, JPEG, TIFF, BMP, GIF or WebP) {where}")
    elif is_image(place):
        yield PredictionJob(place.stem, str(place))
    else:
        raise DataError(f"{place}: " + ("not an image file" if place.exists() else "no such file or folder"))


def parse_shard(words: str | None) -> Shard:
    """The share that `--shard 2/8` means; without it that of the rank under torchrun, else everything.

    Raises:
        ConfigError: Not of this form, or not 1 <= number <= count.
    """
    if words is None:
        return Shard(int(os.environ.get("RANK", "0")) + 1, int(os.environ.get("WORLD_SIZE", "1")))
    match = re.fullmatch(r"(\d+)/(\d+)", words)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--shard {words}: expected NUMBER/COUNT such as 2/8, the first is 1/8")
    return Shard(int(match[1]), int(match[2]))


def local_rank_device(name: str | None) -> str | None:
    """The card of this rank under torchrun, unless a device is named."""
    local = os.environ.get("LOCAL_RANK")
    if name is not None or local is None:
        return name
    import torch

    return f"cuda:{local}" if torch.cuda.is_available() else None


@dataclass(frozen=True)
class ExtraOutputs:
    """What is written beside the masks, each in a folder of its own."""

    guide: bool = False
    probabilities: bool = False
    overlay: bool = False


@dataclass(frozen=True)
class MaskWriter:
    """A folder of masks.

    Attributes:
        out: The folder.
        extras: What is written beside the masks.
        values: "index" or "255".
        rules: Post-processing by class index.
    """

    out: Path
    extras: ExtraOutputs
    values: str
    rules: dict[int, PostprocessRule]

    def mask(self, job: PredictionJob) -> Path:
        """Where the mask of an image lies; names may hold dots."""
        return self.out / f"{job.name}.png"

    def is_written(self, job: PredictionJob) -> bool:
        """Whether the mask of an image and all that is asked for beside it are there."""
        extras = {
            f"guides/{job.name}.png": self.extras.guide,
            f"probabilities/{job.name}.npz": self.extras.probabilities,
            f"overlays/{job.name}.png": self.extras.overlay,
        }
        asked = [self.mask(job), *(self.out / path for path, is_asked in extras.items() if is_asked)]
        return all(path.is_file() for path in asked)

    def write(self, job: PredictionJob, result: Segmentation) -> None:
        """Write the extras first: where the mask stands, everything of its image does."""
        labels = postprocess_labels(result.labels, self.rules)
        if self.extras.guide and result.guide is not None:
            _write_guide(result.guide, self.out / "guides", job.name)
        if self.extras.probabilities:
            content = result.probabilities.numpy().astype(np.float16)
            write_atomically(
                self.out / "probabilities" / f"{job.name}.npz",
                lambda path: np.savez_compressed(path, probabilities=content),
            )
        if self.extras.overlay:
            _save_png(self.out / "overlays" / f"{job.name}.png", draw_outlines(result.pixels, labels, framed=True))
        write_label_map(self.mask(job), labels * self._factor)

    def write_rows(self, job: PredictionJob, size_hw: tuple[int, int], rows: Iterable[np.ndarray]) -> None:
        """Write the mask of a large image, (rows, W) uint8 at a time."""

        def scaled() -> Iterator[np.ndarray]:
            for band in rows:
                yield band * self._factor

        write_label_rows(self.mask(job), size_hw, scaled())

    def require_only_mask(self, regions: RegionReader) -> None:
        """Refuse what needs the whole of an image that is done strip by strip.

        Raises:
            DataError: Something was asked for besides the mask.
        """
        asked = [
            *(["--save-guide"] if self.extras.guide else []),
            *(["--save-probabilities"] if self.extras.probabilities else []),
            *(["--overlay"] if self.extras.overlay else []),
            *(["--post"] if self.rules else []),
        ]
        if asked:
            source, size = regions.geometry.source, width_by_height(regions.geometry.shape)
            raise DataError(
                f"{source}: {size} px are done in strips for want of memory, which does not go with "
                f"{' and '.join(asked)}; leave that out, or raise predict.memory_gb with --set"
            )

    @property
    def _factor(self) -> int:
        return 255 if self.values == "255" else 1


def _write_guide(guide: Tensor, folder: Path, name: str) -> None:
    """The map that gates, and of several maps, one a class, each in a folder of its class."""
    grey = (guide.numpy() * 255).round().astype(np.uint8)
    _save_png(folder / f"{name}.png", grey.max(axis=0))
    if len(grey) > 1:
        for index, one in enumerate(grey, start=1):
            _save_png(folder / f"class_{index}" / f"{name}.png", one)


def _save_png(path: Path, pixels: np.ndarray) -> None:
    image = Image.fromarray(pixels)
    write_atomically(path, lambda place: image.save(place, compress_level=3))
