"""True masks of given images, found by the manifest of prepared data or by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guidino_cli.data.volumes.canonical import turn
from guidino_cli.data.volumes.grid import Grid
from guidino_cli.errors import DataError
from guidino_cli.evaluation.cases import Truth, TruthSet
from guidino_cli.evaluation.grids import align_to_truth
from guidino_cli.evaluation.mask_survey import make_reader
from guidino_cli.evaluation.masks import Mask, MaskReader, ReadOptions, UnexpectedValueError, index_reader
from guidino_cli.evaluation.names import file_stem, strip_suffixes
from guidino_cli.evaluation.truths import find_truths
from guidino_cli.types import width_by_height


@dataclass(frozen=True)
class ImageMasks:
    """Masks of images.

    Attributes:
        paths: Mask by resolved path of its image; images without one are absent.
        reader: Reads the masks.
    """

    paths: dict[Path, Path]
    reader: MaskReader

    def read(self, image: Path, *, size_hw: tuple[int, int]) -> np.ndarray | None:
        """Class indices (H, W) uint8 of an image's mask, None if it has none.

        Raises:
            DataError: The mask cannot be read, or its size differs from the image's.
        """
        path = self.paths.get(image.resolve())
        if path is None:
            return None
        labels = self.reader.read(path).labels
        if labels.shape != size_hw:
            size, wanted = width_by_height(labels.shape), width_by_height(size_hw)
            raise DataError(f"{path}: is {size} px (width x height), but the image {image.name} is {wanted}")
        return labels

    def read_volume(self, volume: Path, grid: Grid) -> np.ndarray | None:
        """Class indices (Z, Y, X) of the mask of a volume in its canonical grid, None if it has none.

        Args:
            volume: File of its first channel.
            grid: Its grid.

        Raises:
            DataError: The mask cannot be read, or is on another grid than the volume.
        """
        path = self.paths.get(volume.resolve())
        if path is None:
            return None
        mask, own = self.reader.read(path), grid.geometry
        target = Mask(np.zeros(own.shape, dtype=np.uint8), spacing_mm=own.spacing, affine=own.affine)
        try:
            aligned, _ = align_to_truth(mask, target, resample=False)
        except DataError as error:
            raise DataError(f"{path}: does not fit its volume {volume.name}: {error}") from error
        return turn(aligned.labels, grid.to_canonical)


def find_image_masks(images: Sequence[Path], source: Path, *, class_count: int | None) -> ImageMasks:
    """Find the mask of every image.

    Args:
        images: Image files.
        source: Folder of masks, one mask, or a prepared data folder, whose manifest lists its images.
        class_count: Number of classes of a run, None if unknown.

    Raises:
        DataError: No mask matches an image, two match one, or the values of the masks are ambiguous.
    """
    truths = find_truths(source, split="all")
    if source.is_file() and len(images) == 1 and truths.classes is None:
        paths = {images[0].resolve(): truths.truths[0].path}
    else:
        by_image = {truth.image.resolve(): truth.path for truth in truths.truths if truth.image is not None}
        by_name = _group_by_name(truths)
        paths = {path: mask for path in (item.resolve() for item in images) if (mask := _find(path, by_image, by_name))}
    if not paths:
        wanted = ", ".join(path.name for path in images[:3])
        raise DataError(f"{source}: no mask has the name of an image; looked for {wanted}")
    return ImageMasks(paths, _make_folder_reader(truths, list(paths.values()), class_count))


def _group_by_name(truths: TruthSet) -> dict[str, list[Truth]]:
    by_name: dict[str, list[Truth]] = {}
    for truth in truths.truths:
        for name in {shorter for full in truth.names for shorter in strip_suffixes(full)}:
            by_name.setdefault(name, []).append(truth)
    return by_name


def _find(image: Path, by_image: dict[Path, Path], by_name: dict[str, list[Truth]]) -> Path | None:
    """The mask listed for the image, else the one of the same name, else of the same name without common suffixes."""
    if image in by_image:
        return by_image[image]
    for name in strip_suffixes(file_stem(image)):
        candidates = by_name.get(name, [])
        exact = [truth for truth in candidates if name in {other.lower() for other in truth.names}]
        if len(exact or candidates) > 1:
            both = ", ".join(truth.path.name for truth in (exact or candidates)[:3])
            raise DataError(f"{image}: more than one mask has its name ({both}); give the mask itself")
        if candidates:
            return (exact or candidates)[0].path
    return None


def _make_folder_reader(truths: TruthSet, needed: Sequence[Path], class_count: int | None) -> MaskReader:
    """One reader for the whole folder, so that a mask without some class changes nothing."""
    if truths.classes is not None:
        return index_reader(len(truths.classes), ignore=truths.ignore_label)
    paths, options = [truth.path for truth in truths.truths], ReadOptions(class_count=class_count)
    reader = make_reader(paths, options)
    if any(_has_unexpected_values(reader, path) for path in needed):
        return make_reader(paths, options, read_all=True)
    return reader


def _has_unexpected_values(reader: MaskReader, path: Path) -> bool:
    try:
        reader.read(path)
    except UnexpectedValueError:
        return True
    except DataError:  # Raised again, with the name of the image, when the mask is used.
        return False
    return False
