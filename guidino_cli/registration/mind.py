"""MIND-SSC: what an image looks like around a pixel, independent of contrast (Heinrich et al. 2013, MICCAI)."""

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.registration.fields import smooth_box

RADIUS, DILATION = 1, 2
"""Of the patches, and how far from the pixel they lie, in pixels: ConvexAdam's defaults."""
_SMALLEST, _LARGEST = 1e-3, 1e3


def mind_ssc(image: Tensor, *, radius: int = RADIUS, dilation: int = DILATION) -> Tensor:
    """Self-similarity context: distances between patches beside a pixel, those of opposite ones left out.

    The neighbours lie at `dilation` pixels along each axis, both ways. A channel is exp(-d / v) of the mean squared
    difference d of the patches around two of them, less the smallest d of the pixel; v is the mean of the pixel's
    channels, between 1/1000 and 1000 times the mean over the image.

    Args:
        image: (Y, X) or (Z, Y, X), not constant.
        radius: Patches have 2 radius + 1 pixels along each axis; beyond the border, the nearest pixel is repeated.
        dilation: Distance of the neighbours.

    Returns:
        (4, Y, X) or (12, Z, Y, X) in (0, 1].
    """
    dims = image.dim()
    neighbours = [(axis, step) for axis in range(dims) for step in (-dilation, dilation)]
    padded = F.pad(image[None, None], [dilation] * (2 * dims), mode="replicate")
    shifted = [_shift(padded, axis, step, dilation) for axis, step in neighbours]
    pairs = [
        (first, second)
        for first, second in combinations(range(len(neighbours)), 2)
        if neighbours[first][0] != neighbours[second][0]
    ]
    differences = torch.cat([(shifted[first] - shifted[second]).square() for first, second in pairs])
    framed = F.pad(differences, [radius] * (2 * dims), mode="replicate")
    distances = smooth_box(framed, side=2 * radius + 1)
    distances = distances[(slice(None), slice(None), *[slice(radius, -radius or None)] * dims)][:, 0]
    distances = distances - distances.amin(dim=0)
    variance = distances.mean(dim=0)
    level = variance.mean()
    return torch.exp(-distances / variance.clamp(level * _SMALLEST, level * _LARGEST))


def _shift(padded: Tensor, axis: int, step: int, margin: int) -> Tensor:
    """The part of a padded image that lies `step` pixels further along an axis; the size is that without padding."""
    for number, size in enumerate(padded.shape[2:]):
        start = margin + (step if number == axis else 0)
        padded = padded.narrow(2 + number, start, size - 2 * margin)
    return padded
