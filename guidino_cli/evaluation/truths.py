"""The true masks that belong to some images, found by name and read by one rule."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guidino_cli.errors import DataError
from guidino_cli.evaluation.pairs.cases import Truth, TruthSet
from guidino_cli.evaluation.pairs.names import shortened, stem
from guidino_cli.evaluation.pairs.truth_masks import find_truths
from guidino_cli.evaluation.reading import MaskReader, ReadOptions, SurpriseError, index_reader, make_reader
from guidino_cli.types import width_by_height


@dataclass(frozen=True)
class Truths:
    """Masks by image.

    Attributes:
        paths: Resolved path of an image -> its mask; images without one are absent.
        reader: How the masks are read.
    """

    paths: dict[Path, Path]
    reader: MaskReader

    def read(self, image: Path, *, size_hw: tuple[int, int]) -> np.ndarray | None:
        """Class indices (H, W) uint8 of an image's mask, or None if the image has none.

        Raises:
            DataError: The mask cannot be read, or is not of the image's size.
        """
        path = self.paths.get(image.resolve())
        if path is None:
            return None
        labels = self.reader.read(path).labels
        if labels.shape != size_hw:
            found, wanted = width_by_height(labels.shape), width_by_height(size_hw)
            raise DataError(f"{path}: is {found} px (width x height), but the image {image.name} is {wanted}")
        return labels


def truths_of(images: Sequence[Path], place: Path, *, class_count: int | None) -> Truths:
    """Find the mask of every image.

    Args:
        images: Image files.
        place: Folder of masks, one mask, or a prepared data folder, whose manifest knows its images.
        class_count: Number of classes of a run, or None if nobody knows.

    Raises:
        DataError: No mask fits any image, two fit one, or the values of the masks can be read in more than one way.
    """
    known = find_truths(place, split="all")
    if place.is_file() and len(images) == 1 and known.classes is None:
        found = {images[0].resolve(): known.truths[0].path}
    else:
        by_image = {truth.image.resolve(): truth.path for truth in known.truths if truth.image is not None}
        by_name = _by_name(known)
        found = {path: mask for path in (item.resolve() for item in images) if (mask := _find(path, by_image, by_name))}
    if not found:
        wanted = ", ".join(path.name for path in images[:3])
        raise DataError(f"{place}: no mask has the name of an image; looked for {wanted}")
    return Truths(found, _reader(known, list(found.values()), class_count))


def _by_name(known: TruthSet) -> dict[str, list[Truth]]:
    names: dict[str, list[Truth]] = {}
    for truth in known.truths:
        for short in {short for name in truth.names for short in shortened(name)}:
            names.setdefault(short, []).append(truth)
    return names


def _find(image: Path, by_image: dict[Path, Path], by_name: dict[str, list[Truth]]) -> Path | None:
    """The mask listed for the image, else the one with its name, else the one with its name without usual endings."""
    if image in by_image:
        return by_image[image]
    for name in shortened(stem(image)):
        candidates = by_name.get(name, [])
        exact = [truth for truth in candidates if name in {known.lower() for known in truth.names}]
        if len(exact or candidates) > 1:
            both = ", ".join(truth.path.name for truth in (exact or candidates)[:3])
            raise DataError(f"{image}: more than one mask has its name ({both}); give the mask itself")
        if candidates:
            return (exact or candidates)[0].path
    return None


def _reader(known: TruthSet, needed: Sequence[Path], class_count: int | None) -> MaskReader:
    """One rule for the whole folder, so that a mask without some class changes nothing."""
    if known.classes is not None:
        return index_reader(len(known.classes))
    paths, options = [truth.path for truth in known.truths], ReadOptions(class_count=class_count)
    reader = make_reader(paths, options)
    if any(_surprises(reader, path) for path in needed):
        return make_reader(paths, options, look_at_all=True)
    return reader


def _surprises(reader: MaskReader, path: Path) -> bool:
    try:
        reader.read(path)
    except SurpriseError:
        return True
    except DataError:  # Said again, with the image's name, when the mask is wanted.
        return False
    return False
