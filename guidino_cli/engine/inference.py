"""Sliding-window inference: image in, probabilities in the same grid out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.config import DataSettings
from guidino_cli.data.images import read_image
from guidino_cli.data.preprocess import network_size, resize_image, restore, to_tensor
from guidino_cli.engine.dense_cache import DenseCache
from guidino_cli.models.composed import Model, Recall

_MIRRORS: list[tuple[int, ...]] = [(), (-1,), (-2,), (-2, -1)]


@dataclass(frozen=True)
class Window:
    """How an image is covered.

    Attributes:
        size: Side of a window in pixels of the network's grid.
        overlap: Share of a window that the next one covers again, in [0, 1).
        mirror: Average over the four flips.
        batch_size: Windows a forward pass.
        mirror_backbone: "each" shows every flip to the backbone; "once" shows it the window as it is, and flips what
            it says. A quarter of its work, but not the same: a ViT is not symmetric.
    """

    size: int
    overlap: float = 0.5
    mirror: bool = True
    batch_size: int = 4
    mirror_backbone: Literal["each", "once"] = "each"


@dataclass(frozen=True)
class Segmented:
    """One file's result, in the grid of the file.

    Attributes:
        labels: (H, W) uint8 class indices.
        probabilities: (K, H, W) float32.
        guide: (G, H, W) float32 in [0, 1], or None without a guide.
        pixels: (H, W, 3) uint8, the image as it was read.
    """

    labels: np.ndarray
    probabilities: Tensor
    guide: Tensor | None
    pixels: np.ndarray


def segment_file(
    model: Model, path: Path, settings: DataSettings, window: Window, *, cache: DenseCache | None = None
) -> Segmented:
    """Segment an image file with the preprocessing that the model was trained with.

    Args:
        model: In evaluation mode.
        path: The image; it is the name under which its dense maps are kept.
        settings: Of the run.
        window: How to cover the image.
        cache: Where dense maps are kept, for files that will come again.

    Raises:
        DataError: The file cannot be read.
    """
    pixels, geometry = read_image(path)
    size = network_size(geometry.size_hw, resize=settings.resize, image_size=settings.image_size)
    image = to_tensor(resize_image(pixels, size)).to(model.mean.device)
    probabilities, guide = segment_image(model, image, window, cache=cache, name=str(path))
    probabilities = restore(probabilities, geometry).cpu()
    labels = probabilities.argmax(dim=0).to(torch.uint8).numpy()
    return Segmented(labels, probabilities, None if guide is None else restore(guide, geometry).cpu(), pixels)


@torch.inference_mode()
def segment_image(
    model: Model, image: Tensor, window: Window, *, cache: DenseCache | None = None, name: str = ""
) -> tuple[Tensor, Tensor | None]:
    """Segment one image of any size.

    Logits of overlapping windows are averaged with Gaussian weights (sigma an eighth of the window), as nnU-Net does.

    Args:
        model: In evaluation mode.
        image: (C, H, W) in [0, 1], in the network's grid, on the model's device.
        window: How to cover it.
        cache: Where dense maps are kept, for images that will come again.
        name: What the image is called there.

    Returns:
        Probabilities (K, H, W), and the guide (G, H, W) brought to pixels, or None without a guide.
    """
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, max(0, window.size - width), 0, max(0, window.size - height)))
    weight = _gaussian(window.size, padded.device)
    total = torch.zeros(padded.shape[-2:], device=padded.device)
    logits: Tensor | None = None
    guide: Tensor | None = None
    everywhere = window_corners((padded.shape[-2], padded.shape[-1]), window)
    for start in range(0, len(everywhere), window.batch_size):
        corners = everywhere[start : start + window.batch_size]
        crops = torch.stack([_crop(padded, corner, window.size) for corner in corners])
        keys = [(name, window.size, corner) for corner in corners]
        crop_logits, crop_guide = _averaged_over_mirrors(model, crops, window, cache=cache, keys=keys)
        if logits is None:
            logits = padded.new_zeros((crop_logits.shape[1], *padded.shape[-2:]))
            guide = None if crop_guide is None else padded.new_zeros((crop_guide.shape[1], *padded.shape[-2:]))
        for i, corner in enumerate(corners):
            _crop(logits, corner, window.size).add_(crop_logits[i] * weight)
            _crop(total, corner, window.size).add_(weight)
            if guide is not None and crop_guide is not None:
                _crop(guide, corner, window.size).add_(crop_guide[i] * weight)
    if logits is None:
        raise ValueError(f"image of {height}x{width} pixels has no window")
    probabilities = (logits / total).softmax(dim=0)[:, :height, :width]
    return probabilities, None if guide is None else (guide / total)[:, :height, :width]


def window_corners(size_hw: tuple[int, int], window: Window) -> list[tuple[int, int]]:
    """Top-left corners of windows that cover an image, evenly spread, at most (1 - overlap) of a window apart."""
    return list(product(_steps(size_hw[0], window), _steps(size_hw[1], window)))


def _steps(side: int, window: Window) -> list[int]:
    room = side - window.size
    if room <= 0:
        return [0]
    count = math.ceil(room / max(1, math.floor(window.size * (1 - window.overlap)))) + 1
    return [round(room * i / (count - 1)) for i in range(count)]


def _averaged_over_mirrors(
    model: Model, crops: Tensor, window: Window, *, cache: DenseCache | None, keys: Sequence[tuple[object, ...]]
) -> tuple[Tensor, Tensor | None]:
    """Mean logits and guide of a batch of windows, flipped images flipped back."""
    logits: list[Tensor] = []
    guides: list[Tensor] = []
    upright = _Upright()
    for axes in _MIRRORS if window.mirror else _MIRRORS[:1]:
        known = None if cache is None else partial(cache.recall, [(*key, axes) for key in keys])
        recall = partial(upright.recall, axes, known) if window.mirror_backbone == "once" else known
        prediction = model(crops.flip(axes) if axes else crops, recall=recall)
        logits.append(prediction.logits[0].float().flip(axes) if axes else prediction.logits[0].float())
        if prediction.guide is not None:
            guide = F.interpolate(prediction.guide.float(), size=crops.shape[-2:], mode="bilinear", align_corners=False)
            guides.append(guide.flip(axes) if axes else guide)
    return torch.stack(logits).mean(dim=0), torch.stack(guides).mean(dim=0) if guides else None


class _Upright:
    """The dense maps of windows as they are, for their mirror images; the first flip asked for must be none."""

    def __init__(self) -> None:
        self.maps: list[Tensor] = []

    def recall(self, axes: tuple[int, ...], known: Recall | None, compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        if not axes:
            self.maps = compute() if known is None else known(compute)
            return self.maps
        return [item.flip(axes) for item in self.maps]


def _gaussian(side: int, device: torch.device) -> Tensor:
    """(side, side) weights, 1 in the middle; never so small at the corners that a division would blow up."""
    x = torch.arange(side, device=device, dtype=torch.float32) - (side - 1) / 2
    line = torch.exp(-(x**2) / (2 * (side / 8) ** 2))
    return torch.outer(line, line).clamp(min=1e-4)


def _crop(maps: Tensor, corner: tuple[int, int], side: int) -> Tensor:
    return maps[..., corner[0] : corner[0] + side, corner[1] : corner[1] + side]
