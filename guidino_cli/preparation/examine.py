"""What is in one image or mask file? Decoded in full, once, and summed up in numbers."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from guidino_cli.data.images import open_image
from guidino_cli.data.masks.values import Histogram, analyse
from guidino_cli.errors import DataError
from guidino_cli.preparation.duplicates import difference_hash, file_hash, thumbnail
from guidino_cli.types import width_by_height


@dataclass(frozen=True)
class ImageFacts:
    """One image.

    Attributes:
        size_hw: Height and width after EXIF rotation.
        mode: Pillow's name of its pixel type ("RGB", "L", "I;16").
        sha256: Of the first file.
        dhash: (4,) uint64.
        small: (1024,) uint8 thumbnail.
        is_flat: Whether all pixels are equal.
    """

    size_hw: tuple[int, int]
    mode: str
    sha256: str
    dhash: np.ndarray
    small: np.ndarray
    is_flat: bool

    @property
    def is_deep(self) -> bool:
        """Whether pixels have more than 8 bits."""
        return self.mode.startswith("I") or self.mode == "F"

    @property
    def has_alpha(self) -> bool:
        """Whether there is an alpha channel."""
        return self.mode in {"RGBA", "LA", "PA", "RGBa", "La"}


@dataclass(frozen=True)
class PackedMask:
    """The stored values of one mask, compressed: thousands fit into memory until the rule for them is known."""

    data: bytes
    shape: tuple[int, ...]
    dtype: str
    histogram: Histogram

    def values(self) -> np.ndarray:
        """The values again: (H, W) or (H, W, 3)."""
        return np.frombuffer(zlib.decompress(self.data), dtype=self.dtype).reshape(self.shape)


def examine_image(path: Path) -> ImageFacts:
    """Decode an image and describe it.

    Raises:
        DataError: It cannot be read in full.
    """
    image = open_image(path)
    grey = _to_grey(image)
    low, high = grey.getextrema()
    return ImageFacts(
        size_hw=(image.height, image.width),
        mode=image.mode,
        sha256=file_hash(path),
        dhash=difference_hash(grey),
        small=thumbnail(grey),
        is_flat=low == high,
    )


def examine_masks(paths: Sequence[Path]) -> list[PackedMask]:
    """Decode the masks of one image, usually one.

    Raises:
        DataError: One of them cannot be read in full.
    """
    return [_pack(*analyse(path)) for path in paths]


def merge_masks(labels: Sequence[np.ndarray]) -> np.ndarray:
    """Union of the binary masks of one image: (H, W) uint8.

    Raises:
        DataError: Their sizes differ, or they hold several classes, whose overlap would be undecided.
    """
    if len({item.shape for item in labels}) > 1:
        sizes = ", ".join(width_by_height(item.shape) for item in labels)
        raise DataError(f"its masks have different sizes ({sizes})")
    if len(labels) > 1 and max(int(item.max()) for item in labels) > 1:
        raise DataError("it has several masks with more than one class; merge them yourself")
    return np.maximum.reduce(list(labels))


def _pack(values: np.ndarray, counts: Histogram) -> PackedMask:
    return PackedMask(zlib.compress(values.tobytes(), 1), values.shape, values.dtype.str, counts)


def _to_grey(image: Image.Image) -> Image.Image:
    """An 8-bit grey copy; pixels of more bits are stretched between their extremes."""
    if not (image.mode.startswith("I") or image.mode == "F"):
        return image.convert("L")
    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    low, high = float(values.min()), float(values.max())
    return Image.fromarray(((values - low) / max(high - low, 1e-6) * 255).astype(np.uint8))
