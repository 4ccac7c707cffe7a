"""MedMNIST's archives: arrays `train_images`, `train_labels` and so on in one .npz, read image by image."""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from guidino_cli.data.labelled.items import SPLITS, LabelledItem, LabelledSet
from guidino_cli.data.limits import require_pixels, require_unpackable
from guidino_cli.errors import DataError, file_errors

_HINT = "expected MedMNIST's arrays train_images, train_labels and so on"


class ImageArray:
    """The images of one array of an archive, in their order, without the others in memory.

    Args:
        path: The .npz file.
        name: Name of the array.

    Attributes:
        shape: (N, H, W), (N, H, W, 3), (N, D, H, W) or (N, D, H, W, 3).

    Raises:
        DataError: The archive is damaged, or the array is not of bytes.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self._file: IO[bytes] | None = None
        self._next = 0
        self.shape = self._open()

    def read(self, index: int) -> np.ndarray:
        """One image of uint8; quick if indices ascend."""
        with file_errors(self.path, f"{self.name} is damaged"):
            if self._file is None or index < self._next:
                self._open()
            while self._next < index:
                self._take()
            return np.frombuffer(self._take(), np.uint8).reshape(self.shape[1:])

    def close(self) -> None:
        """Close the file; reading opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _take(self) -> bytes:
        size = math.prod(self.shape[1:])
        content = b"" if self._file is None else self._file.read(size)
        if len(content) < size:
            raise ValueError("it ends early")
        self._next += 1
        return content

    def _open(self) -> tuple[int, ...]:
        self.close()
        with file_errors(self.path, "cannot be read as an archive of arrays"):
            archive = zipfile.ZipFile(self.path)
            member = archive.getinfo(f"{self.name}.npy")
            self._file = archive.open(member)
            shape, is_fortran, dtype = _read_header(self._file)
            if dtype != np.uint8 or is_fortran or len(shape) not in {3, 4, 5}:
                raise ValueError(f"{self.name} is {shape} {dtype}, expected images of uint8")
            if len(shape) == 4 and shape[3] in {1, 2, 4}:
                raise ValueError(
                    f"{self.name} is {shape}, expected (images, height, width), 3 colours as a fourth axis, or volumes"
                )
            require_pixels(self.path, shape[1:3], is_volume=is_volume_shape(shape))
            require_unpackable(self.path, member.compress_size, math.prod(shape))
        self._next = 0
        return shape


@dataclass(frozen=True, eq=False)
class _Part:
    """One part of the split: the archive that holds it, and its labels (N, K)."""

    path: Path
    labels: np.ndarray


def is_archive_folder(folder: Path) -> bool:
    """Whether a folder holds archives, and no folders or tables that could be the data set instead."""
    names = [path for path in folder.iterdir() if not path.name.startswith(".")]
    others = any(path.is_dir() or path.suffix.lower() in {".csv", ".tsv"} for path in names)
    return not others and any(path.suffix.lower() == ".npz" for path in names)


def read_medmnist(place: Path) -> LabelledSet:
    """Read the labels of an archive: one column of class numbers, or several of 0 and 1.

    Args:
        place: The archive, or a folder of archives that hold different parts, such as train_val.npz and test.npz.

    Raises:
        DataError: Damaged, without labels, labels that are no whole numbers, or a part that two archives hold.
    """
    archives = sorted(path for path in place.iterdir() if path.suffix.lower() == ".npz") if place.is_dir() else [place]
    parts: dict[str, _Part] = {}
    for path in archives:
        for split, part in _read_parts(path).items():
            if split in parts:
                raise DataError(f"{path}: holds {split}_images, and so does {parts[split].path.name}; give one of them")
            parts[split] = part
    parts = {split: parts[split] for split in SPLITS if split in parts}
    widths = {part.labels.shape[1] for part in parts.values()}
    if len(widths) > 1:
        raise DataError(f"{place}: its parts have {' and '.join(map(str, sorted(widths)))} labels an image; {_HINT}")
    width = widths.pop()
    is_multilabel = width > 1
    largest = max(int(part.labels.max(initial=0)) for part in parts.values())
    if is_multilabel and largest > 1:
        raise DataError(f"{place}: has several labels an image and values up to {largest}, expected 0 and 1")
    items = []
    for split, part in parts.items():
        for index, row in enumerate(part.labels.tolist()):
            name = f"{split}/{index:06d}"
            items.append(LabelledItem(name, part.path, tuple(row), split, name, array=f"{split}_images", index=index))
    return LabelledSet(
        place, tuple(map(str, range(width if is_multilabel else largest + 1))), is_multilabel, tuple(items)
    )


def _read_parts(path: Path) -> dict[str, _Part]:
    with file_errors(path, "cannot be read as an archive of arrays"), zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        present = [split for split in SPLITS if f"{split}_images" in names]
        if not present:
            found = ", ".join(sorted(names)[:6])
            raise DataError(f"{path}: holds {found or 'nothing'}, {_HINT}")
        parts = {split: _Part(path, _read_labels(path, archive, split, names)) for split in present}
    for split, part in parts.items():
        shape = ImageArray(path, f"{split}_images").shape
        if len(part.labels) != shape[0]:
            raise DataError(f"{path}: {split} has {shape[0]} images and {len(part.labels)} labels")
    return parts


def is_volume_shape(shape: tuple[int, ...]) -> bool:
    """Whether an array (N, ...) of images holds volumes: a fourth axis that is not of three colours."""
    return len(shape) == 5 or (len(shape) == 4 and shape[3] != 3)


def _read_labels(path: Path, archive: zipfile.ZipFile, split: str, names: set[str]) -> np.ndarray:
    """(N, K) int64, -1 where unknown."""
    if f"{split}_labels" not in names:
        raise DataError(f"{path}: has {split}_images, but no {split}_labels; {_HINT}")
    with archive.open(f"{split}_labels.npy") as file:
        values = np.lib.format.read_array(file, allow_pickle=False)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.dtype.kind not in "buif" or not values.size:
        raise DataError(f"{path}: {split}_labels is {values.shape} {values.dtype}, expected one number per class")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
        raise DataError(f"{path}: {split}_labels of image {row} is NaN, expected a class number; -1 is unknown")
    whole = values.astype(np.int64)
    if (whole != values).any() or whole.min() < -1:
        raise DataError(f"{path}: {split}_labels holds {values.min()}..{values.max()}, expected whole numbers from 0")
    return whole


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(file)
    return shape, is_fortran, dtype
