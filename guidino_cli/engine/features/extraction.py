"""Writing the vectors of a data set: in parts that survive a killed process, joined to one array per split."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from guidino_cli.data.feature_folder import NO_SPLIT, PARTS_FOLDER, PIXELS, FeatureItem
from guidino_cli.data.labelled.items import LabelledItem
from guidino_cli.data.labelled.pictures import PictureReader, SliceOptions, fit_picture, picture_size, tissue_share
from guidino_cli.data.volumes.reading import is_volume_file
from guidino_cli.device_transfer import to_device
from guidino_cli.engine.features.files import FileHashes
from guidino_cli.engine.features.vectors import PIXELS_SIDE, Token, image_vectors, pixel_vectors
from guidino_cli.engine.prediction.background import prefetch
from guidino_cli.errors import DataError, UserError, file_errors, is_out_of_memory
from guidino_cli.files import write_atomically
from guidino_cli.models.base import Backbone

_IMAGES_A_PART, _VOLUMES_A_PART = 64, 4
"""Items whose vectors are written together: what a killed process loses."""

Track = Callable[[Iterable["Part"], int], Iterator["Part"]]


@dataclass(frozen=True)
class ExtractionSettings:
    """How pictures become vectors.

    Attributes:
        token: See `image_vectors`.
        side: Side of the square that every picture is squeezed to; None leaves it as it is.
        slices: How volumes become pictures.
        min_tissue: Tiles with a smaller share of tissue are left out, as background.
        pixels: Add the pixels themselves as vectors of their own.
        batch: Pictures that go through the networks together.
    """

    token: Token
    side: int | None
    slices: SliceOptions
    min_tissue: float = 0.0
    pixels: bool = True
    batch: int = 32


@dataclass(frozen=True)
class Part:
    """Vectors of some items that follow each other.

    Attributes:
        first: Position of the first item in the set.
        counts: Vectors of each item.
        sizes: (items, 2) height and width of its pictures.
        errors: Why an item has none; "" where it has.
        hashes: SHA-256 of each item's file, its first 16 digits.
        vectors: (sum of counts, D) float16 by kind.
    """

    first: int
    counts: np.ndarray
    sizes: np.ndarray
    errors: Sequence[str]
    hashes: Sequence[str]
    vectors: Mapping[str, np.ndarray]


class FeatureExtractor:
    """Writes parts, and joins them.

    Args:
        items: Items of the data set, in its order.
        folder: Folder of the features.
        networks: By kind, "backbone" and perhaps "random"; in evaluation mode, on one device.
        settings: How pictures become vectors.
        root: Folder of the data set.
        is_elsewhere: Whether parts in the folder are of files in another place, so that all are compared by hash.
    """

    def __init__(
        self,
        items: Sequence[LabelledItem],
        folder: Path,
        networks: Mapping[str, Backbone],
        settings: ExtractionSettings,
        *,
        root: Path,
        is_elsewhere: bool = False,
    ) -> None:
        self._root, self._is_elsewhere = root, is_elsewhere
        self.items, self.folder, self.networks, self.settings = items, folder, networks, settings
        self.kinds = [*networks, *([PIXELS] if settings.pixels else [])]
        self._reader = PictureReader(settings.slices)
        self._hashes = FileHashes()
        self._native: tuple[int, int] | None = None
        step = _VOLUMES_A_PART if _is_volume(items[0]) else _IMAGES_A_PART
        self._starts = range(0, len(items), step)

    def run(self, track: Track) -> tuple[list[FeatureItem], int]:
        """Write the parts that are missing and join all.

        Args:
            track: Shows progress over the parts.

        Returns:
            Items with the places of their vectors, and how many of them were computed now.

        Raises:
            DataError: No item can be read, tiles differ in size and none is given, or a file has changed since an
                earlier call.
        """
        computed = 0

        def parts() -> Iterator[Part]:
            nonlocal computed
            for first in self._starts:
                path = self._path(first)
                if path.is_file():
                    part = _load(path, first, self.kinds)
                    self._require_unchanged(part, path)
                else:
                    part = self._compute(first)
                    write_atomically(path, partial(_save, part))
                    computed += len(part.counts)
                yield part

        entries: list[FeatureItem] = []
        starts: dict[str, int] = {}
        for part in track(parts(), len(self._starts)):
            for offset, count in enumerate(part.counts.tolist()):
                item = self.items[part.first + offset]
                start = starts.get(item.split, 0)
                starts[item.split] = start + count
                height, width = part.sizes[offset].tolist()
                error, sha256 = part.errors[offset], part.hashes[offset]
                entries.append(FeatureItem(item, (height, width), start, count, error, sha256))
        self._reader.close()
        if not any(entry.count for entry in entries):
            # Not kept: the files may be put in their place before the next call.
            self.finish()
            reasons = [entry.error for entry in entries if entry.error]
            raise DataError(f"none of {len(entries)} items has vectors; the first: {reasons[0]}")
        self._join(starts)
        return entries, computed

    def finish(self) -> None:
        """Remove the parts, whose vectors are in the arrays of the splits."""
        shutil.rmtree(self.folder / PARTS_FOLDER, ignore_errors=True)

    def _path(self, first: int) -> Path:
        return self.folder / PARTS_FOLDER / f"{first:08d}.npz"

    def _compute(self, first: int) -> Part:
        items = self.items[first : first + self._starts.step]
        pending: list[tuple[np.ndarray, np.ndarray]] = []
        found: dict[str, list[np.ndarray]] = {kind: [] for kind in self.kinds}
        counts, sizes, errors = [], [], []
        # The next ones are read while the networks compute; a volume is many pictures.
        depth = 1 if _is_volume(items[0]) else self.settings.batch
        for _, reading in prefetch(items, self._read, depth=depth):
            pictures, size, error = reading.result()
            counts.append(len(pictures))
            sizes.append(size)
            errors.append(error)
            pending += pictures
            while len(pending) >= self.settings.batch:
                self._flush(pending[: self.settings.batch], found)
                del pending[: self.settings.batch]
        if pending:
            self._flush(pending, found)
        vectors = {kind: np.concatenate(rows) if rows else np.zeros((0, 0), np.float16) for kind, rows in found.items()}
        hashes = [self._hashes.of(item) for item in items]
        return Part(first, np.array(counts, np.int64), np.array(sizes, np.int64), errors, hashes, vectors)

    def _read(self, item: LabelledItem) -> tuple[list[tuple[np.ndarray, np.ndarray]], tuple[int, int], str]:
        """Pictures of an item for the networks and as pixels, their size, and why there are none."""
        side = self.settings.side
        target = None if side is None else (side, side)
        pictures = []
        size = (0, 0)
        try:
            for picture in self._reader.read(item):
                size = picture_size(picture)
                if tissue_share(picture) < self.settings.min_tissue:
                    return [], size, f"less than {self.settings.min_tissue:g} of it is tissue"
                pictures.append((fit_picture(picture, target), fit_picture(picture, (PIXELS_SIDE, PIXELS_SIDE))))
        except UserError as error:
            if is_out_of_memory(error):
                raise
            return [], size, str(error)
        if side is None and pictures:
            self._require_one_size(item, size)
        return pictures, size, ""

    def _require_one_size(self, item: LabelledItem, size: tuple[int, int]) -> None:
        self._native = self._native or size
        if size != self._native:
            one, other = (f"{width}x{height}" for height, width in (self._native, size))
            raise DataError(
                f"{item.path}: is {other}, others are {one}; --px native needs tiles of one size, give --px "
                f"{min(self._native)} to squeeze all to it"
            )

    def _flush(self, pictures: Sequence[tuple[np.ndarray, np.ndarray]], found: Mapping[str, list[np.ndarray]]) -> None:
        images = torch.from_numpy(np.stack([picture for picture, _ in pictures]))
        for kind, network in self.networks.items():
            device = next(network.parameters()).device
            found[kind].append(image_vectors(network, to_device(images, device), self.settings.token))
        if PIXELS in found:
            found[PIXELS].append(pixel_vectors([small for _, small in pictures]))

    def _require_unchanged(self, part: Part, path: Path) -> None:
        items = self.items[part.first : part.first + len(part.counts)]
        changed = self._hashes.find_changed(
            items, part.hashes, since=None if self._is_elsewhere else path, root=self._root
        )
        if changed:
            raise DataError(f"{changed[0]}: has changed since its features were written; add --overwrite to begin anew")

    def _join(self, totals: Mapping[str, int]) -> None:
        """Fill one array per split and kind, part by part: all vectors together may exceed the memory."""
        for kind in self.kinds:
            arrays: dict[str, np.ndarray] = {}
            filled = dict.fromkeys(totals, 0)
            for first in self._starts:
                part = _load(self._path(first), first, [kind])
                row = 0
                for offset, count in enumerate(part.counts.tolist()):
                    split = self.items[first + offset].split
                    if count and split not in arrays:
                        shape = (totals[split], part.vectors[kind].shape[1])
                        path = self.folder / (split or NO_SPLIT) / f"{kind}.npy"
                        path.parent.mkdir(parents=True, exist_ok=True)
                        arrays[split] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
                    if count:
                        place = filled[split]
                        arrays[split][place : place + count] = part.vectors[kind][row : row + count]
                        filled[split] += count
                    row += count
            for array in arrays.values():
                array.flush()  # type: ignore[attr-defined]  # a memmap


def _is_volume(item: LabelledItem) -> bool:
    return item.volume is not None or is_volume_file(item.path)


def _save(part: Part, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(
            file,
            counts=part.counts,
            sizes=part.sizes,
            errors=np.array(part.errors, dtype=np.str_),
            hashes=np.array(part.hashes, dtype=np.str_),
            **{f"vectors_{kind}": rows for kind, rows in part.vectors.items()},  # type: ignore[arg-type]
        )


def _load(path: Path, first: int, kinds: Sequence[str]) -> Part:
    with file_errors(path, "damaged", hint="remove it, and run the command again"), np.load(path) as content:
        return Part(
            first,
            content["counts"],
            content["sizes"],
            content["errors"].tolist(),
            content["hashes"].tolist(),
            {kind: content[f"vectors_{kind}"] for kind in kinds},
        )
