"""Inspect images and masks, and collect problems and remarks about them."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from guidino_cli.data.deep import is_deep, require_finite
from guidino_cli.data.file_records import record_file
from guidino_cli.data.images import drop_alpha, is_image, open_image, read_deep_values, read_orientation, turn
from guidino_cli.data.masks.values import Histogram, IgnoredValue, read_with_histogram
from guidino_cli.files import describe_unsafe_name, shorten_name
from guidino_cli.preparation.duplicates import difference_hash, thumbnail
from guidino_cli.preparation.matching import image_stem, mask_stem
from guidino_cli.preparation.types import DiscoveredDataset, ImageMaskPair
from guidino_cli.progress import join_first, pluralize
from guidino_cli.types import FileRecord, width_by_height


@dataclass(frozen=True)
class ImageProperties:
    """Properties of an image file.

    Attributes:
        size_hw: Height and width after EXIF rotation.
        mode: Pillow's name of the pixel type ("RGB", "L", "I;16"), or "RGB;16" for 16-bit colours.
        record: Size, time and hash of the file.
        dhash: (4,) uint64 difference hash.
        small: (1024,) uint8 thumbnail.
        is_flat: Whether all pixels are equal.
        orientation: EXIF orientation, 1 to 8; 1 is as stored.
    """

    size_hw: tuple[int, int]
    mode: str
    record: FileRecord
    dhash: np.ndarray
    small: np.ndarray
    is_flat: bool
    orientation: int = 1

    @property
    def is_deep(self) -> bool:
        """Whether pixels have more than 8 bits."""
        return is_deep(self.mode)

    @property
    def has_alpha(self) -> bool:
        """Whether there is an alpha channel."""
        return self.mode.removesuffix(";16") in {"RGBA", "LA", "PA", "RGBa", "La"}


@dataclass(frozen=True)
class PackedMask:
    """Stored values of one mask, compressed, so that thousands fit into memory until the rule for them is known.

    Attributes:
        data: The values, compressed.
        shape: (H, W) or (H, W, 3).
        dtype: Data type of the values.
        histogram: Histogram of `values`.
        orientation: EXIF orientation of the file.
        ignore: Pixels that do not count; None if all count.
    """

    data: bytes
    shape: tuple[int, ...]
    dtype: str
    histogram: Histogram
    orientation: int = 1
    ignore: IgnoredValue | None = None

    def values(self) -> np.ndarray:
        """The values, (H, W) or (H, W, 3); pixels that do not count are background."""
        stored = self._stored()
        return stored if self.ignore is None else self.ignore.replace(stored)

    def ignored(self) -> np.ndarray:
        """Booleans of the pixels that do not count, (H, W)."""
        if self.ignore is None:
            return np.zeros(self.shape[:2], dtype=bool)
        return self.ignore.find(self._stored())

    def _stored(self) -> np.ndarray:
        return np.frombuffer(zlib.decompress(self.data), dtype=self.dtype).reshape(self.shape)


def inspect_image(path: Path) -> ImageProperties:
    """Decode an image and compute its properties.

    Raises:
        DataError: It cannot be read in full.
    """
    values = read_deep_values(path)
    record = record_file(path, with_time=True)
    if values is None:
        image = open_image(path)
        grey, mode = image.convert("L"), image.mode
    else:
        require_finite(values, path)
        grey = _stretch_to_grey(values)
        mode = "I;16" if values.ndim == 2 else {2: "LA;16", 3: "RGB;16", 4: "RGBA;16"}[values.shape[2]]
    low, high = grey.getextrema()
    return ImageProperties(
        size_hw=(grey.height, grey.width),
        mode=mode,
        record=record,
        dhash=difference_hash(grey),
        small=thumbnail(grey),
        is_flat=low == high,
        orientation=read_orientation(path),
    )


def inspect_masks(
    paths: Sequence[Path], *, in_colour: bool = False, orientation: int = 1, ignore: IgnoredValue | None = None
) -> list[PackedMask]:
    """Decode the masks of one image, usually one.

    Args:
        paths: Mask files.
        in_colour: Read palettes as their colours.
        orientation: EXIF orientation by which masks without a tag of their own are turned.
        ignore: Value of pixels that do not count.

    Raises:
        DataError: One of them cannot be read in full.
    """
    packed = []
    for path in paths:
        values, histogram = read_with_histogram(path, in_colour=in_colour, ignore=ignore)
        own = read_orientation(path) if is_image(path) else 1
        values = turn(values, orientation) if own == 1 else values
        data = zlib.compress(values.tobytes(), 1)
        packed.append(PackedMask(data, values.shape, values.dtype.str, histogram, own, ignore))
    return packed


def _stretch_to_grey(values: np.ndarray) -> Image.Image:
    """An 8-bit grey copy of an image of more than 8 bits, stretched between its extremes."""
    values = drop_alpha(values).astype(np.float32)
    values = values if values.ndim == 2 else values.mean(axis=2)
    low, high = float(values.min()), float(values.max())
    return Image.fromarray(((values - low) / max(high - low, 1e-6) * 255).astype(np.uint8))


_MAX_LISTED = 10


@dataclass(frozen=True)
class Finding:
    """A problem or a remark.

    Attributes:
        kind: "error" stops; "bad" stops unless bad cases are skipped; "warning" and "note" are only reported.
        text: One sentence that names the files.
        case: Id of the bad case, or None if the finding is about several.
    """

    kind: Literal["error", "bad", "warning", "note"]
    text: str
    case: str | None = None


def check_names(dataset: DiscoveredDataset, *, allow_unpaired: bool) -> list[Finding]:
    """Check for files without a partner, ambiguous names, and ids that cannot be file names."""
    kind: Literal["error", "warning"] = "warning" if allow_unpaired else "error"
    hint = "left out" if allow_unpaired else "add the missing files, or leave these out with --allow-unpaired"
    findings = [Finding("note", note) for note in dataset.notes]
    images, masks = dataset.unmatched_images, dataset.unmatched_masks
    if images:
        text = f"{pluralize(len(images), 'image')} without a mask ({format_items(images)}): {hint}"
        findings.append(Finding(kind, text))
    if masks:
        text = f"{pluralize(len(masks), 'mask')} without an image ({format_items(masks)}): {hint}"
        findings.append(Finding(kind, text))
    if dataset.missing_images:
        text = f"{pluralize(len(dataset.missing_images), 'image')} named by the label files "
        text += f"{'is' if len(dataset.missing_images) == 1 else 'are'} not there "
        findings.append(Finding(kind, f"{text}({format_items(dataset.missing_images)}): {hint}"))
    if dataset.incomplete:
        text = f"{pluralize(len(dataset.incomplete), 'case')} without a channel: {format_items(dataset.incomplete)}"
        findings.append(Finding(kind, f"{text}; {hint}"))
    if dataset.unused_parts:
        names = ", ".join(f"{folder.as_posix()}/" for folder in dataset.unused_parts[:_MAX_LISTED])
        wanted = "expected images and masks in folders of like names (test/images/, test/masks/)"
        text = f"no image of {names} would be used: {wanted}"
        findings.append(Finding(kind, f"{text}; {'left out' if allow_unpaired else 'rename them, ' + hint}"))
    for files in dataset.collisions:
        findings.append(
            Finding("error", f"{format_items(files)} have one name but are several files: remove or rename all but one")
        )
    findings += _check_ids(dataset.pairs)
    return findings


def check_pair(pair: ImageMaskPair, images: Sequence[ImageProperties], masks: Sequence[PackedMask]) -> list[Finding]:
    """Check the number of channels and the sizes of channels and masks."""
    size_hw = images[0].size_hw
    size = width_by_height(size_hw)
    findings = []
    for path, properties in zip(pair.images[1:], images[1:], strict=True):
        if properties.size_hw != size_hw:
            findings.append(
                _bad_case(pair, f"{path}: is {width_by_height(properties.size_hw)}, its first channel {size}")
            )
    if len(images) > 3:
        findings.append(_bad_case(pair, f"{pair.images[0]}: {len(images)} channel files, expected 1 to 3"))
    for path, mask in zip(pair.masks, masks, strict=True):
        if mask.shape[:2] != size_hw:
            turned = " (turned by 90 degrees?)" if mask.shape[:2] == size_hw[::-1] else ""
            findings.append(_bad_case(pair, f"{path}: is {width_by_height(mask.shape)}, its image {size}{turned}"))
    return findings


def is_orientation_clear(image: ImageProperties, masks: Sequence[PackedMask], *, has_size: bool = True) -> bool:
    """Whether masks certainly fit their image: EXIF does not turn it, or turns the masks too, or the size decides.

    Args:
        image: Properties of the image.
        masks: Masks of the image.
        has_size: Whether the masks have a size of their own, not that of the image.
    """
    tells_by_size = has_size and image.orientation >= 5 and image.size_hw[0] != image.size_hw[1]
    return image.orientation == 1 or tells_by_size or all(mask.orientation != 1 for mask in masks)


def ask_orientation(images: Sequence[Path]) -> Finding:
    """Ask whether masks were drawn on images as EXIF turns them or as they are stored."""
    return Finding(
        "error",
        f"{pluralize(len(images), 'image')} turned by the EXIF tag, with masks that have no tag "
        f"({format_items(images)}); give --exif apply if the masks were drawn on the turned images, --exif ignore if "
        "on the stored ones",
    )


def check_image_properties(properties: dict[str, ImageProperties]) -> list[Finding]:
    """Report images of more than 8 bits, with an alpha channel, turned by EXIF, or of one colour.

    Args:
        properties: Case id -> properties of its first image.
    """
    deep = [case for case, item in properties.items() if item.is_deep]
    alpha = [case for case, item in properties.items() if item.has_alpha]
    flat = [case for case, item in properties.items() if item.is_flat]
    turned = [case for case, item in properties.items() if item.orientation != 1]
    remarks = [
        Finding(
            "note",
            f"{pluralize(len(deep), 'image')} of more than 8 bits, whose darkest and brightest hundredth become black "
            f"and white: {format_items(deep)}",
        ),
        Finding(
            "note", f"{pluralize(len(alpha), 'image')} with an alpha channel, which is dropped: {format_items(alpha)}"
        ),
        Finding("note", f"{pluralize(len(turned), 'image')} turned by the EXIF tag: {format_items(turned)}"),
        Finding("warning", f"{pluralize(len(flat), 'image')} of one colour throughout: {format_items(flat)}"),
    ]
    return [remark for remark, cases in zip(remarks, (deep, alpha, turned, flat), strict=True) if cases]


def check_foreground(pixels: dict[str, np.ndarray], *, unit: str = "pixel") -> list[Finding]:
    """Report masks without foreground or without background.

    Args:
        pixels: Case id -> (K,) pixels of each class.
        unit: What they are, "pixel" or "voxel".
    """
    empty = [case for case, counts in pixels.items() if counts[1:].sum() == 0]
    full = [case for case, counts in pixels.items() if counts[0] == 0]
    if pixels and len(empty) == len(pixels):
        return [Finding("warning", "every mask is empty: there is nothing to learn")]
    findings = [Finding("note", f"{pluralize(len(empty), 'empty mask')}: {format_items(empty)}")] if empty else []
    if full and len(full) == len(pixels):
        text = f"no mask has a {unit} of class 0, the background; if another value is the background, name it first"
        findings.append(Finding("warning", f"{text}: --classes '1=background,2=...'"))
    elif full:
        findings.append(
            Finding("warning", f"{pluralize(len(full), 'mask')} without any background: {format_items(full)}")
        )
    return findings


def check_swapped_names(pairs: Sequence[ImageMaskPair]) -> list[Finding]:
    """Report masks that are named like the image of another case, as in a table whose columns are shifted by a row."""
    single = [pair for pair in pairs if len(pair.images) == len(pair.masks) == 1]
    images = {image_stem(pair.images[0].stem).lower() for pair in single}
    swapped = []
    for pair in single:
        image, mask = image_stem(pair.images[0].stem).lower(), mask_stem(pair.masks[0].stem).lower()
        if image != mask and mask in images:
            swapped.append(f"{pair.masks[0].name} for {pair.images[0].name}")
    if not swapped:
        return []
    text = f"{pluralize(len(swapped), 'mask')} of {len(pairs)} named like the image of another case: "
    return [Finding("warning", f"{text}{join_first(swapped)}; are the columns of the table shifted by a row?")]


def format_items(items: Iterable[object]) -> str:
    """Format up to ten items; of files, the name with its folder."""
    texts = [f"{item.parent.name}/{item.name}" if isinstance(item, Path) else str(item) for item in items]
    return join_first(texts, limit=_MAX_LISTED)


def _check_ids(pairs: Sequence[ImageMaskPair]) -> list[Finding]:
    findings = []
    named: dict[str, list[str]] = {}
    for pair in pairs:
        named.setdefault(pair.id.lower(), []).append(pair.id)
        if problem := describe_unsafe_name(pair.id):
            text = f"the case id {shorten_name(pair.id)!r} cannot be a file name, it {problem}: rename {pair.images[0]}"
            findings.append(Finding("error", text))
    for ids in named.values():
        if len(ids) > 1:
            findings.append(
                Finding("error", f"{len(ids)} cases share the id {' / '.join(sorted(set(ids)))}: rename them")
            )
    return findings


def _bad_case(pair: ImageMaskPair, text: str) -> Finding:
    return Finding("bad", text, pair.id)
