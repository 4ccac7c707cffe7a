"""Inspect every image and mask, and collect what is wrong or worth knowing about each pair."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from guidino_cli.data.images import is_deep, open_image
from guidino_cli.data.masks.values import Histogram, read_with_histogram
from guidino_cli.errors import DataError
from guidino_cli.files import file_sha256
from guidino_cli.preparation.duplicates import difference_hash, thumbnail
from guidino_cli.preparation.types import DiscoveredDataset, Pair
from guidino_cli.progress import pluralize
from guidino_cli.types import width_by_height


@dataclass(frozen=True)
class ImageProperties:
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
        return is_deep(self.mode)

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


def inspect_image(path: Path) -> ImageProperties:
    """Decode an image and describe it.

    Raises:
        DataError: It cannot be read in full.
    """
    image = open_image(path)
    grey = _to_grey(image)
    low, high = grey.getextrema()
    return ImageProperties(
        size_hw=(image.height, image.width),
        mode=image.mode,
        sha256=file_sha256(path),
        dhash=difference_hash(grey),
        small=thumbnail(grey),
        is_flat=low == high,
    )


def inspect_masks(paths: Sequence[Path]) -> list[PackedMask]:
    """Decode the masks of one image, usually one.

    Raises:
        DataError: One of them cannot be read in full.
    """
    return [_pack_mask(*read_with_histogram(path)) for path in paths]


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


def _pack_mask(values: np.ndarray, counts: Histogram) -> PackedMask:
    return PackedMask(zlib.compress(values.tobytes(), 1), values.shape, values.dtype.str, counts)


def _to_grey(image: Image.Image) -> Image.Image:
    """An 8-bit grey copy; pixels of more bits are stretched between their extremes."""
    if not is_deep(image.mode):
        return image.convert("L")
    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    low, high = float(values.min()), float(values.max())
    return Image.fromarray(((values - low) / max(high - low, 1e-6) * 255).astype(np.uint8))


_MAX_LISTED = 10


@dataclass(frozen=True)
class Finding:
    """One remark.

    Attributes:
        kind: "error" stops, "bad" stops unless bad cases are to be skipped, "warning" and "note" are only told.
        text: One sentence with the files it is about.
        case: Id of the bad case, or None if the remark is about several.
    """

    kind: Literal["error", "bad", "warning", "note"]
    text: str
    case: str | None = None


def check_names(found: DiscoveredDataset, *, allow_unpaired: bool) -> list[Finding]:
    """Files without a partner, files that cannot be told apart, ids that cannot be file names."""
    kind: Literal["error", "warning"] = "warning" if allow_unpaired else "error"
    hint = "left out" if allow_unpaired else "add the missing files, or leave these out with --allow-unpaired"
    findings = [Finding("note", note) for note in found.notes]
    if found.images:
        findings.append(
            Finding(
                kind, f"{pluralize(len(found.images), 'image')} without a mask ({format_items(found.images)}): {hint}"
            )
        )
    if found.masks:
        findings.append(
            Finding(
                kind, f"{pluralize(len(found.masks), 'mask')} without an image ({format_items(found.masks)}): {hint}"
            )
        )
    for files in found.collisions:
        findings.append(
            Finding("error", f"{format_items(files)} have one name but are several files: remove or rename all but one")
        )
    findings += _check_ids(found.pairs)
    return findings


def check_pair(pair: Pair, images: Sequence[ImageProperties], masks: Sequence[PackedMask]) -> list[Finding]:
    """Size of image and masks, more than three channels, a flat image."""
    size_hw = images[0].size_hw
    size = width_by_height(size_hw)
    findings = []
    for path, facts in zip(pair.images[1:], images[1:], strict=True):
        if facts.size_hw != size_hw:
            findings.append(_bad_case(pair, f"{path}: is {width_by_height(facts.size_hw)}, its first channel {size}"))
    if len(images) > 3:
        findings.append(_bad_case(pair, f"{pair.images[0]}: {len(images)} channel files, expected 1 to 3"))
    for path, mask in zip(pair.masks, masks, strict=True):
        if mask.shape[:2] != size_hw:
            turned = " (turned by 90 degrees?)" if mask.shape[:2] == size_hw[::-1] else ""
            findings.append(_bad_case(pair, f"{path}: is {width_by_height(mask.shape)}, its image {size}{turned}"))
    return findings


def check_image_properties(facts: dict[str, ImageProperties]) -> list[Finding]:
    """What people should know of a data set's images: depth, alpha, flat ones.

    Args:
        facts: Case id -> facts of its first image.
    """
    deep = [case for case, item in facts.items() if item.is_deep]
    alpha = [case for case, item in facts.items() if item.has_alpha]
    flat = [case for case, item in facts.items() if item.is_flat]
    remarks = [
        Finding(
            "note",
            f"{pluralize(len(deep), 'image')} of more than 8 bits, whose percentiles become black and white: "
            f"{format_items(deep)}",
        ),
        Finding(
            "note", f"{pluralize(len(alpha), 'image')} with an alpha channel, which is dropped: {format_items(alpha)}"
        ),
        Finding("warning", f"{pluralize(len(flat), 'image')} of one colour throughout: {format_items(flat)}"),
    ]
    return [remark for remark, cases in zip(remarks, (deep, alpha, flat), strict=True) if cases]


def check_foreground(pixels: dict[str, np.ndarray]) -> list[Finding]:
    """Masks without foreground, or without background.

    Args:
        pixels: Case id -> (K,) pixels of each class.
    """
    empty = [case for case, counts in pixels.items() if counts[1:].sum() == 0]
    full = [case for case, counts in pixels.items() if counts[0] == 0]
    if pixels and len(empty) == len(pixels):
        return [Finding("warning", "every mask is empty: there is nothing to learn")]
    findings = [Finding("note", f"{pluralize(len(empty), 'empty mask')}: {format_items(empty)}")] if empty else []
    if full:
        findings.append(
            Finding("warning", f"{pluralize(len(full), 'mask')} without any background: {format_items(full)}")
        )
    return findings


def format_items(items: Iterable[object]) -> str:
    """Up to ten items in words; of files, the name with its folder."""
    words = [f"{item.parent.name}/{item.name}" if isinstance(item, Path) else str(item) for item in items]
    return ", ".join(words[:_MAX_LISTED]) + (
        f" and {len(words) - _MAX_LISTED} more" if len(words) > _MAX_LISTED else ""
    )


def _check_ids(pairs: Sequence[Pair]) -> list[Finding]:
    findings = []
    named: dict[str, list[str]] = {}
    for pair in pairs:
        named.setdefault(pair.id.lower(), []).append(pair.id)
        if not pair.id or pair.id.startswith(".") or set(pair.id) & set('/\\:*?"<>|'):
            findings.append(Finding("error", f"the case id '{pair.id}' cannot be a file name: rename it"))
    for ids in named.values():
        if len(ids) > 1:
            findings.append(
                Finding("error", f"{len(ids)} cases share the id {' / '.join(sorted(set(ids)))}: rename them")
            )
    return findings


def _bad_case(pair: Pair, text: str) -> Finding:
    return Finding("bad", text, pair.id)
