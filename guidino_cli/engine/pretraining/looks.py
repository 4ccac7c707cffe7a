"""What the tokens of some fixed images show while a run goes on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from guidino_cli.data.images import read_image
from guidino_cli.data.preprocess import resize_image, to_tensor
from guidino_cli.engine.guides.tokens import principal_colours
from guidino_cli.ssl.trunk import Trunk


@dataclass(frozen=True)
class Look:
    """One image through the eyes of a network.

    Attributes:
        path: Of the image.
        pixels: (H, W, 3) uint8, as the network got it.
        components: (h, w, 3) in [0, 1], the first three principal components of its tokens as colours.
        explained: Share of the tokens' variance within those three.
    """

    path: Path
    pixels: np.ndarray
    components: np.ndarray
    explained: float


def fixed_images(paths: Sequence[Path], *, count: int) -> list[Path]:
    """Some images, the same ones whenever a run looks: evenly spread over the list."""
    if len(paths) <= count:
        return list(paths)
    return [paths[round(index * (len(paths) - 1) / max(1, count - 1))] for index in range(count)]


@torch.no_grad()
def look(trunk: Trunk, path: Path, *, long_side: int) -> Look:
    """Show an image to a network in evaluation mode, its longer side brought to about `long_side` pixels."""
    pixels, geometry = read_image(path)
    factor = long_side / max(geometry.size_hw)
    h, w = (max(2, round(side * factor / trunk.patch)) for side in geometry.size_hw)
    pixels = resize_image(pixels, (h * trunk.patch, w * trunk.patch))
    device = next(trunk.parameters()).device
    patches = trunk(to_tensor(pixels).to(device)[None]).patches[0].float().cpu()
    components, explained = principal_colours(patches.T.unflatten(1, (h, w)))
    return Look(path, pixels, components, explained)
