"""Features of a frozen backbone for registration: tokens of every slice, reduced by one PCA for all that is compared.

After DINO-Reg (Song, Xu, Yan 2024, MICCAI): slice by slice, a PCA fitted to fixed and moving image together.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.data.volumes.resampling import find_long_axis
from guidino_cli.device_transfer import to_double
from guidino_cli.models.base import Backbone
from guidino_cli.models.slicewise import compute_slice_maps
from guidino_cli.registration.fields import resize_linear

ENLARGEMENT, LARGEST_SIDE = 3, 672
"""By default a backbone sees slices three times as large as they are, up to so many pixels on the longer side."""
MAX_TOKENS = 100_000
"""Tokens to which a PCA is fitted at most."""
_HELD_BYTES = 2**29


@dataclass(frozen=True, eq=False)
class Pca:
    """Principal components of tokens.

    Attributes:
        mean: (D,) of the tokens.
        basis: (D, Q) components with the largest variance first, scaled so that their mean variance is 1.
        explained: Share of the variance of the tokens that they hold.
    """

    mean: Tensor
    basis: Tensor
    explained: float

    def project(self, maps: Tensor) -> Tensor:
        """Components (Q, *S) of maps (D, *S)."""
        return torch.einsum("d...,dq->q...", maps - self.mean.view(-1, *[1] * (maps.dim() - 1)), self.basis)

    def to(self, device: torch.device) -> "Pca":
        """The same on another device."""
        return Pca(self.mean.to(device), self.basis.to(device), self.explained)


def fit_pca(tokens: Tensor, components: int) -> Pca:
    """Fit a PCA to tokens (N, D).

    Raises:
        ValueError: All tokens are equal.
    """
    numbers = to_double(tokens)
    mean = numbers.mean(dim=0)
    centred = numbers - mean
    variances, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    variances, vectors = variances.flip(0)[:components].clamp(min=0), vectors.flip(1)[:, :components]
    total = float(centred.square().mean(dim=0).sum())
    if total <= 0:
        raise ValueError("all tokens are equal")
    scale = float(variances.mean()) ** -0.5
    found = Pca(mean.float(), (vectors * scale).float(), float(variances.sum()) / total)
    return found.to(tokens.device)


def draw_tokens(maps: Iterable[Tensor], *, limit: int = MAX_TOKENS, seed: int = 0) -> Tensor:
    """Tokens (N, D) of maps (D, *S), at most `limit` of them, drawn at random."""
    tokens = torch.cat([item.flatten(1).T for item in maps])
    if len(tokens) <= limit:
        return tokens
    chosen = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))[:limit]
    return tokens[chosen.sort().values.to(tokens.device)]


@torch.no_grad()
def compute_maps(backbone: Backbone, image: np.ndarray, spacing: tuple[float, ...], *, px: int | None = None) -> Tensor:
    """Tokens of an image, or of every slice of a volume: of axial ones, or across the axis of much longer voxels.

    Args:
        backbone: Frozen.
        image: (C, Y, X) or (C, Z, Y, X) float32 in [0, 1], of 1 or 3 channels.
        spacing: Size of a pixel along each axis.
        px: Pixels of the longer side of a slice as the backbone sees it; None for the default, see `ENLARGEMENT`.

    Returns:
        (D, h, w) or (D, Z, h, w) in which the axis of the slices has its full length.
    """
    device = next(backbone.parameters()).device
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    axis = _slice_axis(spacing)
    volume = pixels[:, None] if image.ndim == 3 else pixels.movedim(1 + axis, 1)
    sides = [size * step for size, step in zip(volume.shape[2:], _plane_spacing(spacing, axis), strict=True)]
    longest = px or min(ENLARGEMENT * max(volume.shape[2:]), LARGEST_SIDE)
    stride = backbone.stride
    size = [max(1, ceil(longest * side / max(sides) / stride)) * stride for side in sides]
    chosen, places = find_distinct_slices(volume)
    enlarged = F.interpolate(volume.transpose(0, 1)[chosen], size=size, mode="bicubic", align_corners=False).clamp(0, 1)
    maps = compute_slice_maps(backbone, enlarged.transpose(0, 1)[None])[-1][0][:, places]
    return maps[:, 0] if image.ndim == 3 else maps.movedim(1, 1 + axis)


class TokenMaps:
    """Tokens of images by `compute_maps`; the latest are held, since an image may be in many pairs.

    Args:
        backbone: See `compute_maps`.
        px: See `compute_maps`.
        limit: Bytes that are held.
    """

    def __init__(self, backbone: Backbone, *, px: int | None = None, limit: int = _HELD_BYTES) -> None:
        self._backbone, self._px, self._limit = backbone, px, limit
        self._held: OrderedDict[bytes, Tensor] = OrderedDict()

    def compute(self, image: np.ndarray, spacing: tuple[float, ...]) -> Tensor:
        """See `compute_maps`; what is returned must not be changed."""
        content = np.ascontiguousarray(image)
        key = hashlib.sha256(repr((image.shape, spacing)).encode() + content.tobytes()).digest()
        found = self._held.pop(key, None)
        if found is None:
            found = compute_maps(self._backbone, image, spacing, px=self._px)
        if found.nbytes <= self._limit:
            self._held[key] = found
        while sum(maps.nbytes for maps in self._held.values()) > self._limit:
            self._held.popitem(last=False)
        return found


def find_distinct_slices(volume: Tensor) -> tuple[list[int], list[int]]:
    """Which slices of (C, Z, Y, X) a backbone has to see, and for each slice its place among them.

    Slices of one and the same colour, of which the margins of many volumes consist, are seen once.
    """
    slices = volume.transpose(0, 1).flatten(2)
    is_constant = (slices == slices[..., :1]).all(dim=2).all(dim=1).tolist()
    colours = slices[..., 0].tolist()
    chosen: list[int] = []
    places: list[int] = []
    seen: dict[tuple[float, ...], int] = {}
    for number, (constant, colour) in enumerate(zip(is_constant, colours, strict=True)):
        place = seen.get(tuple(colour)) if constant else None
        if place is None:
            place = len(chosen)
            chosen.append(number)
            if constant:
                seen[tuple(colour)] = place
        places.append(place)
    return chosen, places


def _slice_axis(spacing: tuple[float, ...]) -> int:
    if len(spacing) != 3:
        return 0
    z, y, x = spacing
    return find_long_axis((z, y, x), (z, y, x)) or 0


def _plane_spacing(spacing: tuple[float, ...], axis: int) -> list[float]:
    return [step for number, step in enumerate(spacing) if len(spacing) == 2 or number != axis]


def enlarge_maps(maps: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Maps (Q, *s) on the grid of their image, (Q, *S), linearly."""
    return resize_linear(maps[None], shape)[0]
