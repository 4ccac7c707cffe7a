"""Images padded to a network's stride, and maps brought from one grid to another; with two or three axes of space."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.device_transfer import to_device


def pad_to_multiple(image: Tensor, stride: int | Sequence[int]) -> Tensor:
    """Pad the end of each axis, repeating the edge, until every side is a multiple of `stride`.

    Args:
        image: (B, C, H, W) or (B, C, D, H, W).
        stride: One for all axes, or one for each.
    """
    sides = image.shape[2:]
    missing = [-side % step for side, step in zip(sides, strides_by_axis(stride, len(sides)), strict=True)]
    # torch pads the last axis first.
    pad = [cells for count in reversed(missing) for cells in (0, count)]
    return F.pad(image, pad, mode="replicate") if any(pad) else image


def crop(maps: Tensor, size: Sequence[int]) -> Tensor:
    """The beginning of each axis of space: the image without its padding."""
    for axis, side in enumerate(size, start=2):
        maps = maps.narrow(axis, 0, side)
    return maps


def strides_by_axis(stride: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """The stride of each axis of space.

    Raises:
        ValueError: Strides for another number of axes.
    """
    strides = (stride,) * axes if isinstance(stride, int) else tuple(stride)
    if len(strides) != axes:
        raise ValueError(f"strides {list(strides)}, expected one for each of {axes} axes")
    return strides


def resize_guide(guide: Tensor, size: Sequence[int]) -> Tensor:
    """A guide (B, G, h, w) or (B, G, d, h, w) on a grid of `size` that covers the same image.

    Linear along every axis, by triangles as wide as the cells of the coarser grid, so that a finer guide is averaged.
    """
    if guide.shape[2:] == torch.Size(size):
        return guide
    if guide.ndim == 4:
        shrinks = guide.shape[-2] > size[0] or guide.shape[-1] > size[1]
        return F.interpolate(guide, size=tuple(size), mode="bilinear", align_corners=False, antialias=shrinks)
    # torch has no anti-aliasing in three dimensions: each axis is a product with the weights that it would use.
    # Autocast would round the products to half precision, which it does not do with interpolation.
    with torch.autocast(guide.device.type, enabled=False):
        for axis, cells in enumerate(size, start=2):
            if guide.shape[axis] != cells:
                weights = _triangle_weights(guide.shape[axis], cells, like=guide)
                guide = torch.movedim(torch.movedim(guide, axis, -1) @ weights, -1, axis)
    return guide


def _triangle_weights(cells: int, wanted: int, *, like: Tensor) -> Tensor:
    """(cells, wanted): the share of each cell of a line in each cell of another line that covers the same length."""
    scale = cells / wanted
    # In units of the given cells, whose centres are at 0.5, 1.5, ...
    centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * scale
    distance = (torch.arange(cells, dtype=torch.float64)[:, None] + 0.5 - centres).abs()
    weights = (1 - distance / max(1.0, scale)).clamp(min=0)
    # Near the edge a part of the triangle lies outside.
    return to_device((weights / weights.sum(dim=0)).to(like.dtype), like.device)


def extend_to_padding(level: Tensor, image: Tensor, padded: Tensor) -> Tensor:
    """A dense feature map on a grid that covers the padded image; its edge is repeated, as the image's is."""
    return _cover(level, image.shape[2:], padded.shape[2:])


def crop_to_image(level: Tensor, image: Tensor, padded: Tensor) -> Tensor:
    """Coarser logits of the padded image on a grid that covers the image alone, as the mask of the loss does."""
    return _cover(level, padded.shape[2:], image.shape[2:])


def _cover(level: Tensor, covered: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """A map of an image of `covered` pixels on a grid of about the same cells that covers `wanted` pixels.

    Both begin at the same corner.
    """
    if tuple(covered) == tuple(wanted):
        return level
    factors = [after / before for after, before in zip(wanted, covered, strict=True)]
    cells = [-(-side * after // before) for side, after, before in zip(level.shape[2:], wanted, covered, strict=True)]
    if level.ndim == 5:
        # In half precision the coordinates would be rounded, and torch has none on a CPU.
        level = level.float()
    # torch orders coordinates from the last axis to the first.
    rows = [[0.0] * place + [factor] + [0.0] * (len(factors) - 1 - place) + [factor - 1]
            for place, factor in enumerate(reversed(factors))]  # fmt: skip
    place = to_device(torch.tensor(rows, dtype=level.dtype), level.device).expand(
        len(level), len(factors), len(factors) + 1
    )
    grid = F.affine_grid(place, [len(level), 1, *cells], align_corners=False)
    return F.grid_sample(level, grid, padding_mode="border", align_corners=False)
