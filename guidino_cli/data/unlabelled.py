"""Data set of unlabelled images, found recursively in a folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from guidino_cli.data.dataset import SampleIndex
from guidino_cli.data.images import find_images, read_image
from guidino_cli.data.preprocess import resize_image
from guidino_cli.errors import DataError
from guidino_cli.types import UnlabelledSample

_MASK_FOLDERS = {"mask", "masks", "labels", "labelstr", "labelsts", "ground_truth", "groundtruth", "gt"}


def find_unlabelled_images(folder: Path) -> list[Path]:
    """Images of a folder and the folders below, in the order of `list_images`.

    Raises:
        DataError: No such folder, no image in it, or masks beside the images.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is a file' if folder.exists() else 'no such folder'}; give a folder of images")
    paths = find_images(folder, recursive=True)
    _require_no_masks(folder, paths)
    if not paths:
        raise DataError(f"{folder}: no image in it or in the folders below; give a folder of PNG, JPEG or TIFF files")
    return paths


def _require_no_masks(folder: Path, paths: Sequence[Path]) -> None:
    """Refuse a folder with masks in it: they would be learned from as if they were images."""
    if (folder / "cases.json").is_file():
        raise DataError(
            f"{folder}: made by `guidino prepare`, it holds masks and not the images; give the folder of the images"
        )
    for inside in {path.parent.relative_to(folder) for path in paths}:
        if _MASK_FOLDERS & {part.lower() for part in inside.parts}:
            raise DataError(f"{folder}: holds masks too, in {inside}; give the folder of the images alone")


class UnlabelledDataset(Dataset[UnlabelledSample]):
    """Whole images resized to squares; crops and photometric changes are made later, on the batch.

    Args:
        paths: Image files.
        side: Side S of the squares in pixels.
        cache_gb: Gigabytes of decoded data kept in memory, by each worker for itself.
    """

    def __init__(self, paths: Sequence[Path], *, side: int, cache_gb: float) -> None:
        self.paths = paths
        self.side = side
        self._free_bytes = cache_gb * 1e9
        self._cache: dict[int, tuple[np.ndarray, float]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: SampleIndex) -> UnlabelledSample:
        """Load an image; `DataError` names the file if it cannot be read."""
        pixels, aspect = self._load(index.case)
        return UnlabelledSample(
            torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
            torch.tensor(aspect),
            torch.tensor(index.case),
            torch.tensor(index.epoch),
        )

    def _load(self, index: int) -> tuple[np.ndarray, float]:
        if index in self._cache:
            return self._cache[index]
        pixels, _ = read_image(self.paths[index])
        kept = resize_image(pixels, (self.side, self.side)), pixels.shape[1] / pixels.shape[0]
        if self._free_bytes >= kept[0].nbytes:
            self._free_bytes -= kept[0].nbytes
            self._cache[index] = kept
        return kept
