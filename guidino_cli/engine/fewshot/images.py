"""Images as a frozen backbone sees them, some with a mask: what a few-label model is fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from guidino_cli.config import DataSettings
from guidino_cli.data.cases import IGNORED
from guidino_cli.data.preprocess import network_size, resize_image, to_tensor
from guidino_cli.data.readers import read
from guidino_cli.engine.guides.agreement import cell_shares
from guidino_cli.models.composed import Model


@dataclass(frozen=True, eq=False)
class SeenImage:
    """An image, or a slice of a volume, and its tokens.

    Attributes:
        pixels: (H, W, 3) uint8 in the network's grid; of a slice (C, H, W) float32, its intensities mapped.
        dense: (D, h, w) float32, the backbone's deepest map.
    """

    pixels: np.ndarray
    dense: Tensor

    @property
    def image(self) -> Tensor:
        """(C, H, W) float32 as the model takes it."""
        return to_tensor(self.pixels) if self.pixels.dtype == np.uint8 else torch.from_numpy(self.pixels)


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image, its tokens, and its mask.

    Attributes:
        seen: The image.
        labels: (H, W) class indices in the image's own grid; `IGNORED` for pixels that do not count.
        volume: Name of the volume of which it is a slice; None for an image.
    """

    seen: SeenImage
    labels: np.ndarray
    volume: str | None = None

    def area(self, region: int) -> float:
        """Share of class `region` among the pixels that count, in [0, 1]; 0 if none counts."""
        counted = int(np.count_nonzero(self.labels != IGNORED))
        return int(np.count_nonzero(self.labels == region)) / counted if counted else 0.0

    def shares(self, region: int, grid_hw: tuple[int, int]) -> np.ndarray:
        """Share of each cell of a grid that class `region` covers: (h * w,) float32 in [0, 1]."""
        return cell_shares(self.labels == region, grid_hw)

    def counted(self, grid_hw: tuple[int, int]) -> np.ndarray:
        """Booleans of the cells of a grid of which at least half counts, (h * w,)."""
        return cell_shares(self.labels == IGNORED, grid_hw) <= 0.5


@torch.no_grad()
def see(model: Model, pixels: np.ndarray, data: DataSettings) -> SeenImage:
    """Run the backbone of a model on a decoded image (H, W, 3) uint8 of any size."""
    if model.backbone is None:
        raise ValueError("the model has no backbone")
    size_hw = network_size((pixels.shape[0], pixels.shape[1]), resize=data.resize, image_size=data.image_size)
    resized = resize_image(pixels, size_hw)
    dense = model.backbone(to_tensor(resized).to(model.mean.device)[None])[-1][0]
    return SeenImage(resized, dense.float().cpu())


def see_file(model: Model, path: Path, data: DataSettings) -> SeenImage:
    """`see` for an image file; `DataError` if it cannot be read."""
    return see(model, read(path)[0], data)
