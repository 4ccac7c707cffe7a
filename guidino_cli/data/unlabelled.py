"""Images without labels: found in a folder and the folders below, decoded once, kept in memory as far as it lasts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from guidino_cli.data.dataset import SampleIndex
from guidino_cli.data.images import list_images, read_image
from guidino_cli.data.preprocess import resize_image
from guidino_cli.errors import DataError
from guidino_cli.types import UnlabelledSample

_MASK_FOLDERS = {"mask", "masks", "labels", "labelstr", "labelsts", "ground_truth", "groundtruth", "gt"}


def find_unlabelled_images(folder: Path) -> list[Path]:
    """All images of a folder and the folders below, in the order of a tree printed from top to bottom.

    Raises:
        DataError: No such folder, no image in it, or masks beside the images.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is a file' if folder.exists() else 'no such folder'}; give a folder of images")
    paths = [folder / name for name in list_images(folder, recursive=True)]
    _require_no_masks(folder, paths)
    if not paths:
        raise DataError(f"{folder}: no image in it or in the folders below; give a folder of PNG, JPEG or TIFF files")
    return paths


def _require_no_masks(folder: Path, paths: Sequence[Path]) -> None:
    """A folder of images and masks is easily given whole, and masks would be learned from as if they were images."""
    if (folder / "cases.json").is_file():
        raise DataError(
            f"{folder}: made by `guidino prepare`, it holds masks and not the images; give the folder of the images"
        )
    for inside in {path.parent.relative_to(folder) for path in paths}:
        if _MASK_FOLDERS & {part.lower() for part in inside.parts}:
            raise DataError(f"{folder}: holds masks too, in {inside}; give the folder of the images alone")


class UnlabelledDataset(Dataset[UnlabelledSample]):
    """Whole images squeezed to squares: no crop, no change of light, those are made on the batch.

    Args:
        paths: Image files.
        side: S of the squares.
        cache_gb: How much decoded data each copy of the data set keeps in memory; every worker has a copy.
    """

    def __init__(self, paths: Sequence[Path], *, side: int, cache_gb: float) -> None:
        self.paths = paths
        self.side = side
        self._free_bytes = cache_gb * 1e9
        self._cache: dict[int, tuple[np.ndarray, float]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, turn: SampleIndex) -> UnlabelledSample:
        """An image in an epoch; `DataError` names the file if it cannot be read."""
        pixels, aspect = self._decoded(turn.case)
        return UnlabelledSample(
            torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
            torch.tensor(aspect),
            torch.tensor(turn.case),
            torch.tensor(turn.epoch),
        )

    def _decoded(self, index: int) -> tuple[np.ndarray, float]:
        if index in self._cache:
            return self._cache[index]
        pixels, geometry = read_image(self.paths[index])
        kept = resize_image(pixels, (self.side, self.side)), geometry.size_hw[1] / geometry.size_hw[0]
        if self._free_bytes >= kept[0].nbytes:
            self._free_bytes -= kept[0].nbytes
            self._cache[index] = kept
        return kept
