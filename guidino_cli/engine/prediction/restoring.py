"""Bring bands of maps from the stored grid of a volume to the grid of its source, a slice at a time."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.device_transfer import to_device
from guidino_cli.engine.prediction.accumulation import Band


class _Neighbours(NamedTuple):
    """For each slice of the result: the two slices between which it lies, and the share of the second one."""

    below: np.ndarray
    above: np.ndarray
    share: np.ndarray


def restore_bands(
    bands: Iterator[Band], size: Sequence[int], source_size: Sequence[int], *, long_axis: int | None
) -> Iterator[Band]:
    """Resample maps linearly, and along `long_axis` to the nearest slice: `resample_map` of the prepared data undone.

    No more than two slices of the result are held, whatever the number of classes.

    Args:
        bands: Without gaps, from the first slice to the last.
        size: (D, H, W) of the bands together.
        source_size: (D, H, W) of the result, which has the same extent.
        long_axis: 0, 1, 2 or None.

    Yields:
        Bands of one slice each; the given ones if the sizes are equal.
    """
    if tuple(size) == tuple(source_size):
        yield from bands
        return
    places = _find_neighbours(size[0], source_size[0], is_nearest=long_axis == 0)
    needed = set(places.below.tolist()) | set(places.above.tolist())
    planes: dict[int, Tensor] = {}
    following = 0
    for index, maps, classes in _slices(bands):
        if index not in needed:
            continue
        planes[index] = _resize_plane(maps, source_size[1:], long_axis=long_axis)
        while following < source_size[0] and places.above[following] <= index:
            below, above, share = (item[following] for item in places)
            plane = planes[int(below)]
            if share:
                plane = plane * (1 - float(share)) + planes[int(above)] * float(share)
            guide = plane[classes:, None]
            yield Band(following, plane[:classes, None], guide if len(guide) else None)
            following += 1
        if following < source_size[0]:
            planes = {place: plane for place, plane in planes.items() if place >= places.below[following]}


def single_slices(bands: Iterator[Band]) -> Iterator[Band]:
    """The same maps in bands of one slice, so that those of several runs can be added."""
    for index, maps, classes in _slices(bands):
        guide = maps[classes:, None]
        yield Band(index, maps[:classes, None], guide if len(guide) else None)


def _slices(bands: Iterator[Band]) -> Iterator[tuple[int, Tensor, int]]:
    """Index of each slice, its maps (K + G, H, W), and K."""
    for band in bands:
        maps = band.probabilities if band.guide is None else torch.cat([band.probabilities, band.guide])
        for number in range(maps.shape[1]):
            yield band.top + number, maps[:, number], len(band.probabilities)


def _find_neighbours(length: int, new_length: int, *, is_nearest: bool) -> _Neighbours:
    centres = (np.arange(new_length) + 0.5) * length / new_length
    if is_nearest:
        nearest = centres.astype(np.intp).clip(max=length - 1)
        return _Neighbours(nearest, nearest, np.zeros(new_length))
    position = (centres - 0.5).clip(0, length - 1)
    below = position.astype(np.intp)
    return _Neighbours(below, (below + 1).clip(max=length - 1), position - below)


def _resize_plane(maps: Tensor, size_hw: Sequence[int], *, long_axis: int | None) -> Tensor:
    """(K, h, w) -> (K, H, W), linearly, or along `long_axis` 1 or 2 to the nearest row or column."""
    size = list(size_hw)
    if long_axis in (1, 2):
        length, size[long_axis - 1] = size[long_axis - 1], maps.shape[long_axis]
        nearest = torch.from_numpy(_find_neighbours(maps.shape[long_axis], length, is_nearest=True).below)
        maps = maps.index_select(long_axis, to_device(nearest, maps.device))
        size[long_axis - 1] = length
    if list(maps.shape[1:]) == size:
        return maps
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
