"""Inference on image tensors in the network's grid: sliding windows over one image, or one batch of small images."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.engine.feature_cache.cache import FeatureCache
from guidino_cli.engine.prediction.accumulation import to_probabilities
from guidino_cli.engine.prediction.network import Network
from guidino_cli.engine.prediction.sliding import Window, predict_with_flips, segment_bands


def segment_image(
    model: Network, image: Tensor, window: Window, *, cache: FeatureCache | None = None, name: str = ""
) -> tuple[Tensor, Tensor | None]:
    """Segment one image of any size; `segment_bands` does the same without holding the whole result.

    Args:
        model: In evaluation mode.
        image: (C, H, W) in [0, 1], in the network's grid, on the model's device.
        window: How to cover it.
        cache: Backbone features of images that will be segmented again.
        name: Identifies the image in the cache.

    Returns:
        Probabilities (K, H, W), and the guide (G, H, W) interpolated to pixels, or None without a guide.

    Raises:
        ValueError: The image has no pixels.
    """
    if not window.pads and max(image.shape[-2:]) <= window.size:
        return segment_batch(model, [image], window)[0]
    padded = pad_to_window(image, window.size)

    def read_window(corner: tuple[int, int]) -> Tensor:
        return padded[..., corner[0] : corner[0] + window.size, corner[1] : corner[1] + window.size]

    size_hw = (image.shape[-2], image.shape[-1])
    bands = list(segment_bands(model, size_hw, read_window, window, cache=cache, name=name))
    if not bands:
        raise ValueError(f"image of {size_hw[0]}x{size_hw[1]} pixels has no window")
    guides = [band.guide for band in bands if band.guide is not None]
    return torch.cat([band.probabilities for band in bands], dim=1), torch.cat(guides, dim=1) if guides else None


@torch.inference_mode()
def segment_batch(model: Network, images: Sequence[Tensor], window: Window) -> list[tuple[Tensor, Tensor | None]]:
    """Segment images that fit into one window each in one forward pass; results as from `segment_image`.

    Args:
        model: In evaluation mode.
        images: Each (C, H, W) in [0, 1], H and W at most the window's side.
        window: Its batch size is ignored: all images form the batch.
    """
    if not window.pads and len({image.shape for image in images}) > 1:
        return [segment_batch(model, [image], window)[0] for image in images]
    crops = torch.stack([pad_to_window(image, window.size) if window.pads else image for image in images])
    logits, guides = predict_with_flips(model, crops, window)
    results: list[tuple[Tensor, Tensor | None]] = []
    for i, image in enumerate(images):
        height, width = image.shape[-2:]
        guide = None if guides is None else guides[i, :, :height, :width]
        results.append((to_probabilities(logits[i], are_affinities=window.are_affinities)[:, :height, :width], guide))
    return results


def pad_to_window(image: Tensor, side: int) -> Tensor:
    """(C, H, W) with zeros at the bottom and right, at least `side` high and wide."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, max(0, side - width), 0, max(0, side - height)))
