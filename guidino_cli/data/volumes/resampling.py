"""Resample stored volumes to another voxel size, and label maps back, by the rules of nnU-Net 2.

nnU-Net (`default_resampling`): images cubic, labels linear per class. Where voxels are more than three times as long as
wide, before or after, the plane of the small sides is interpolated and the long axis takes the nearest slice.
"""

from collections.abc import Iterable, Sequence

import numpy as np

MAX_ISOTROPY = 3.0
"""Ratio of voxel sides above which the longest axis is resampled by itself."""

Size = tuple[int, int, int]
Spacing = tuple[float, float, float]


def resampled_size(size: Size, spacing_mm: Spacing, target_mm: Sequence[float | None]) -> Size:
    """Voxels along each axis at another spacing; None keeps the axis as it is. At least 1.

    In nnU-Net's order of operations: another one may round a half to the other side.
    """
    z, y, x = (
        count if target is None else max(1, round(old / target * count))
        for count, old, target in zip(size, spacing_mm, target_mm, strict=True)
    )
    return z, y, x


def resampled_spacing(size: Size, spacing_mm: Spacing, new_size: Size) -> Spacing:
    """Spacing in mm with which the resampled voxels fill exactly the extent of the old ones."""
    z, y, x = (old * count / new for old, count, new in zip(spacing_mm, size, new_size, strict=True))
    return z, y, x


def find_long_axis(spacing_mm: Spacing, new_spacing_mm: Spacing) -> int | None:
    """The axis of the longest voxel side, if it is more than `MAX_ISOTROPY` times the shortest before or after.

    None where two sides are equally long, such as 0.24 x 1.25 x 1.25 mm: neither axis is coarser than the other.
    """
    for spacing in (spacing_mm, new_spacing_mm):
        if max(spacing) > MAX_ISOTROPY * min(spacing):
            # Spacings that were resampled are equal up to rounding.
            longest = np.flatnonzero(np.isclose(spacing, max(spacing), rtol=1e-3))
            return int(longest[0]) if len(longest) == 1 else None
    return None


def resample_image(values: np.ndarray, size: Size, *, long_axis: int | None) -> np.ndarray:
    """Resample (Z, Y, X) intensities to another size over the same extent: cubic, nearest along `long_axis`.

    Returns:
        float32; the same array if the size stays.
    """
    return _zoom(values, size, order=3, long_axis=long_axis)


def resample_map(values: np.ndarray, size: Size, *, long_axis: int | None) -> np.ndarray:
    """Resample (Z, Y, X) scores or probabilities linearly, nearest along `long_axis`; float32."""
    return _zoom(values, size, order=1, long_axis=long_axis)


def resample_labels(labels: np.ndarray, size: Size, *, long_axis: int | None) -> np.ndarray:
    """Resample (Z, Y, X) class indices: each voxel becomes the class with the largest share of it."""
    if labels.shape == size:
        return labels
    classes = np.unique(labels)
    best = (resample_map((labels == value).astype(np.float32), size, long_axis=long_axis) for value in classes)
    return np.asarray(classes[argmax_of_maps(best)]).astype(labels.dtype)


def resample_nearest(labels: np.ndarray, size: Size) -> np.ndarray:
    """Resample (Z, Y, X) instance numbers: each voxel takes the number at its centre."""
    if labels.shape == size:
        return labels
    places = [
        ((np.arange(new) + 0.5) * old / new).astype(np.intp).clip(max=old - 1)
        for old, new in zip(labels.shape, size, strict=True)
    ]
    return labels[np.ix_(*places)]


def argmax_of_maps(maps: Iterable[np.ndarray]) -> np.ndarray:
    """Index of the largest of several maps of one shape, holding two of them at a time; the first one of equals.

    Returns:
        uint8, or uint16 of more than 256 maps.
    """
    best, index = None, None
    for number, values in enumerate(maps):
        if best is None or index is None:
            best, index = values.copy(), np.zeros(values.shape, dtype=np.uint16)
            continue
        larger = values > best
        best[larger] = values[larger]
        index[larger] = number
    if index is None:
        raise ValueError("no map")
    return index.astype(np.uint8) if index.max(initial=0) <= 255 else index


def _zoom(values: np.ndarray, size: Size, *, order: int, long_axis: int | None) -> np.ndarray:
    if values.shape == size:
        return values
    if long_axis is not None:
        position = (np.arange(size[long_axis]) + 0.5) * values.shape[long_axis] / size[long_axis]
        # Slices first where that makes them fewer, last where it makes them more.
        nearest = position.astype(np.intp).clip(max=values.shape[long_axis] - 1)
        if size[long_axis] <= values.shape[long_axis]:
            values, nearest = values.take(nearest, axis=long_axis), np.arange(size[long_axis])
        target = (*size[:long_axis], *size[long_axis + 1 :])
        planes = [_zoom_plane(plane, target, order) for plane in np.moveaxis(values, long_axis, 0)]
        return np.stack([planes[index] for index in nearest], axis=long_axis)
    # Splines of several axes are those of one after the other; all at once take the memory of four volumes more.
    wide = np.empty((values.shape[0], *size[1:]), dtype=np.float32)
    for number, plane in enumerate(values):
        wide[number] = _zoom_plane(plane, size[1:], order)
    if size[0] == len(wide):
        return wide
    result = np.empty(size, dtype=np.float32)
    for row in range(size[1]):
        result[:, row] = _zoom_plane(wide[:, row], (size[0], size[2]), order)
    return result


def _zoom_plane(plane: np.ndarray, target: tuple[int, ...], order: int) -> np.ndarray:
    """Resample two axes; float32."""
    from scipy.ndimage import zoom

    numbers = plane.astype(np.float32, copy=False)
    if numbers.shape == target:
        return numbers
    factors = [new / old for new, old in zip(target, numbers.shape, strict=True)]
    return np.asarray(zoom(numbers, factors, order=order, mode="nearest", grid_mode=True))
