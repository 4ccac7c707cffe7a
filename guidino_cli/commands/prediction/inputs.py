"""Which images are predicted, under which names, and which of them are this process's share."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from guidino_cli.data.images import is_image
from guidino_cli.data.listing import list_images
from guidino_cli.data.manifest import FILE_NAME, load_manifest
from guidino_cli.errors import ConfigError, DataError


class Job(NamedTuple):
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


def find_jobs(places: Sequence[Path], split: str, *, recursive: bool = False) -> list[Job]:
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
    return [Job(name, image) for name, image in found.items()]


def _jobs_at(place: Path, split: str, *, recursive: bool) -> Iterator[Job]:
    if (place / FILE_NAME).is_file() or place.name == FILE_NAME:
        cases = load_manifest(place).cases
        chosen = [Job(case.id, str(case.image)) for case in cases if split in {"all", case.split}]
        if not chosen:
            raise DataError(f"{place}: no cases in split '{split}'; expected train, val, test or all")
        yield from chosen
    elif place.is_dir():
        found = False
        for path in list_images(place, recursive=recursive):
            found = True
            yield Job(os.path.splitext(path)[0], os.path.join(place, path))
        if not found:
            where = "in this folder or below it" if recursive else "directly in this folder (--recursive looks below)"
            raise DataError(f"{place}: no images (PNG, JPEG, TIFF, BMP, GIF or WebP) {where}")
    elif is_image(place):
        yield Job(place.stem, str(place))
    else:
        raise DataError(f"{place}: " + ("not an image file" if place.exists() else "no such file or folder"))


def which_shard(words: str | None) -> Shard:
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


def own_device(name: str | None) -> str | None:
    """The card of this rank under torchrun, unless a device is named."""
    local = os.environ.get("LOCAL_RANK")
    if name is not None or local is None:
        return name
    import torch

    return f"cuda:{local}" if torch.cuda.is_available() else None
