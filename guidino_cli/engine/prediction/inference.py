"""Image in, probabilities in the same grid out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.config import DataSettings
from guidino_cli.data.images import read_image
from guidino_cli.data.preprocess import network_size, resize_image, restore_to_source, to_tensor
from guidino_cli.engine.feature_cache.cache import FeatureCache
from guidino_cli.engine.prediction.sliding import Window, predict_with_flips, segment_bands
from guidino_cli.models.composed import Model

__all__ = ["Segmentation", "Window", "segment_batch", "segment_file", "segment_image"]


@dataclass(frozen=True)
class Segmentation:
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
    model: Model, path: Path, settings: DataSettings, window: Window, *, cache: FeatureCache | None = None
) -> Segmentation:
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
    probabilities = restore_to_source(probabilities, geometry).cpu()
    labels = probabilities.argmax(dim=0).to(torch.uint8).numpy()
    return Segmentation(
        labels, probabilities, None if guide is None else restore_to_source(guide, geometry).cpu(), pixels
    )


def segment_image(
    model: Model, image: Tensor, window: Window, *, cache: FeatureCache | None = None, name: str = ""
) -> tuple[Tensor, Tensor | None]:
    """Segment one image of any size; see `segment_bands`, which needs not hold it all.

    Args:
        model: In evaluation mode.
        image: (C, H, W) in [0, 1], in the network's grid, on the model's device.
        window: How to cover it.
        cache: Where dense maps are kept, for images that will come again.
        name: What the image is called there.

    Returns:
        Probabilities (K, H, W), and the guide (G, H, W) brought to pixels, or None without a guide.
    """
    padded = _padded(image, window.size)

    def crop(corner: tuple[int, int]) -> Tensor:
        return padded[..., corner[0] : corner[0] + window.size, corner[1] : corner[1] + window.size]

    size = (image.shape[-2], image.shape[-1])
    bands = list(segment_bands(model, size, crop, window, cache=cache, name=name))
    if not bands:
        raise ValueError(f"image of {size[0]}x{size[1]} pixels has no window")
    guides = [band.guide for band in bands if band.guide is not None]
    return torch.cat([band.probabilities for band in bands], dim=1), torch.cat(guides, dim=1) if guides else None


@torch.inference_mode()
def segment_batch(model: Model, images: Sequence[Tensor], window: Window) -> list[tuple[Tensor, Tensor | None]]:
    """Segment images that fit into one window each in one forward pass; otherwise as `segment_image`.

    Args:
        model: In evaluation mode.
        images: Each (C, H, W) in [0, 1], H and W at most the window's side.
        window: Its batch size is not looked at: all images form the batch.
    """
    crops = torch.stack([_padded(image, window.size) for image in images])
    logits, guides = predict_with_flips(model, crops, window)
    results: list[tuple[Tensor, Tensor | None]] = []
    for i, image in enumerate(images):
        height, width = image.shape[-2:]
        guide = None if guides is None else guides[i, :, :height, :width]
        results.append((logits[i].softmax(dim=0)[:, :height, :width], guide))
    return results


def _padded(image: Tensor, side: int) -> Tensor:
    """(C, H, W) with zeros at the bottom and right, at least `side` high and wide."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, max(0, side - width), 0, max(0, side - height)))
