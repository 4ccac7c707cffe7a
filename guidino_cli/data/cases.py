"""Read the image and the mask of a prepared case."""

from pathlib import Path

import numpy as np

from guidino_cli.data.images import open_image, read_image
from guidino_cli.data.volumes.stored import open_array
from guidino_cli.errors import DataError
from guidino_cli.types import Case, width_by_height


def read_label_map(path: Path) -> np.ndarray:
    """Read a class-index mask written by `guidino prepare` or `guidino predict`: (H, W) uint8.

    Raises:
        DataError: Unreadable, or not a single-channel 8-bit image.
    """
    image = open_image(path)
    if image.mode not in {"L", "P", "1"}:
        raise DataError(f"{path}: expected a class-index mask, found mode {image.mode}; make it with `guidino prepare`")
    return np.asarray(image).astype(np.uint8)


IGNORED = 255
"""Value, in label maps of `read_pair`, of pixels that do not count; classes are 0 to 254."""


def read_pair(case: Case, *, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read the image (H, W, 3) uint8 and the class indices (H, W) uint8 of a labelled case.

    Pixels with the ignore label of the case are `IGNORED`.

    Raises:
        DataError: No mask, an unreadable file, different sizes, or a class of `num_classes` or more.
    """
    if case.mask is None:
        raise DataError(f"{case.image}: has no mask and cannot be trained on")
    pixels, _ = read_image(case.image)
    labels, ignored = read_truth(case)
    if labels.shape != pixels.shape[:2]:
        found, expected = width_by_height(labels.shape), width_by_height(pixels.shape)
        raise DataError(
            f"{case.mask}: is {found} px (width x height), its image {case.image} is {expected}; run `guidino prepare` "
            "again"
        )
    if labels.max() >= num_classes:
        raise DataError(
            f"{case.mask}: has class {labels.max()}, expected 0..{num_classes - 1}; run `guidino prepare` again"
        )
    return pixels, labels if ignored is None else np.where(ignored, np.uint8(IGNORED), labels)


def read_truth(case: Case) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the mask of a labelled case of a prepared data set.

    Returns:
        (H, W) uint8 class indices, and booleans of the pixels that do not count, which are background in the first;
        None if the case has no ignore label.

    Raises:
        DataError: Unreadable, or not a single-channel 8-bit image.
    """
    if case.mask is None:
        raise ValueError(f"case {case.id} has no mask")
    labels = read_label_map(case.mask)
    if case.ignore_label is None:
        return labels, None
    ignored = labels == case.ignore_label
    return np.where(ignored, np.uint8(0), labels), ignored


def read_stored_truth(case: Case) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the labels of a volume on its stored grid.

    Returns:
        (Z, Y, X) class indices, and booleans of the voxels that do not count, which are background in the first; None
        if the case has no ignore label.

    Raises:
        DataError: Missing or damaged.
    """
    if case.volume is None or case.volume.labels is None:
        raise ValueError(f"case {case.id} has no stored labels")
    labels = np.asarray(open_array(case.volume.labels)[:])
    if case.ignore_label is None:
        return labels, None
    ignored = labels == case.ignore_label
    return np.where(ignored, np.zeros_like(labels), labels), ignored
