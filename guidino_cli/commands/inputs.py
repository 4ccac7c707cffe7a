"""Input images of the drawing commands, their masks and the names of their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from guidino_cli.data.images import IMAGE_SUFFIXES, find_images, is_image
from guidino_cli.data.manifest import is_prepared, load_manifest
from guidino_cli.data.volumes.reading import is_volume_file
from guidino_cli.errors import DataError
from guidino_cli.progress import join_first, log_warning

if TYPE_CHECKING:
    from guidino_cli.evaluation.image_masks import ImageMasks


_OF_VOLUMES = "give --run with a run that was trained on volumes, or images"


def list_input_images(paths: Sequence[Path], split: str) -> list[Path]:
    """List the images of files, folders (by name) and prepared data folders; repeated files once.

    Raises:
        DataError: A path does not exist or holds no image.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for image in _images_at(path, split):
            found.setdefault(image.resolve(), image)
    return list(found.values())


def prepared_truth(paths: Sequence[Path]) -> Path | None:
    """The path itself if it is a single prepared data folder, which holds the truth too; else None."""
    return paths[0] if len(paths) == 1 and is_prepared(paths[0]) else None


def find_truth(files: Sequence[Path], truth: Path | None, *, class_count: int | None) -> ImageMasks | None:
    """Find the true masks of images, and warn about images without one.

    Raises:
        DataError: No masks can be found or read.
    """
    if truth is None:
        return None
    # Without a truth nothing of the evaluation is needed, and starting is quicker.
    from guidino_cli.evaluation.image_masks import find_image_masks

    masks = find_image_masks(files, truth, class_count=class_count)
    without = [path.name for path in files if path.resolve() not in masks.paths]
    if without:
        log_warning(f"no truth for {join_first(without)}; drawn without")
    return masks


def unique_names(files: Sequence[Path]) -> dict[str, Path]:
    """Files by output name: the stem; with folder and suffix where stems repeat, and a number if need be."""
    names: dict[str, Path] = {}
    taken: set[str] = set()
    stems: dict[str, int] = {}
    for path in files:
        stems[path.stem.lower()] = stems.get(path.stem.lower(), 0) + 1
    for path in files:
        name = path.stem
        if stems[path.stem.lower()] > 1:
            name = f"{path.resolve().parent.name}_{path.stem}_{path.suffix[1:]}"
        unique, number = name, 1
        while unique.lower() in taken:
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique.lower())
        names[unique] = path
    return names


def _images_at(place: Path, split: str) -> list[Path]:
    if is_prepared(place):
        manifest = load_manifest(place)
        if manifest.is_volumes:
            raise DataError(f"{place}: holds volumes; {_OF_VOLUMES}")
        chosen = [case.image for case in manifest.cases if split in {"all", case.split}]
        if not chosen:
            raise DataError(f"{place}: no cases in split '{split}'; expected train, val, test or all")
        return chosen
    if place.is_dir():
        paths = find_images(place)
        if not paths:
            kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
            raise DataError(f"{place}: no images directly in this folder (looked for {kinds})")
        return paths
    if not place.is_file():
        raise DataError(f"{place}: no such file or folder")
    if is_volume_file(place):
        raise DataError(f"{place}: is a volume; {_OF_VOLUMES}")
    if not is_image(place):
        raise DataError(f"{place}: not an image file by its name (PNG, JPEG, TIFF, BMP, GIF or WebP)")
    return [place]
