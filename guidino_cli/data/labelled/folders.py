"""Labels by folder: one folder per class, below `train`, `val` and `test` if there are any; folders inside are bags."""

import os
from collections.abc import Iterator
from pathlib import Path

from guidino_cli.data.images import is_image
from guidino_cli.data.labelled.items import SPLIT_NAMES, LabelledItem, LabelledSet, class_names
from guidino_cli.data.volumes.reading import is_volume_file
from guidino_cli.errors import DataError

_IMAGE_FOLDERS = {"image", "images", "img", "imgs", "imagestr", "imagests"}
_MASK_FOLDERS = {"mask", "masks", "label", "labels", "labelstr", "labelsts", "ground_truth", "groundtruth", "gt"}


def read_class_folders(root: Path) -> LabelledSet:
    """Read a folder of classes.

    Raises:
        DataError: The folder holds no folders with images, or files beside the folders of classes.
    """
    children = _folders(root)
    parts = {child.name: SPLIT_NAMES.get(child.name.lower(), "") for child in children}
    has_split = bool(parts) and all(parts.values())
    # Each class folder with the part of the split that it belongs to.
    places = (
        [(inside, parts[child.name]) for child in children for inside in _folders(child)]
        if has_split
        else [(child, "") for child in children]
    )
    found = [(folder, split, list(_files(folder))) for folder, split in places]
    found = [entry for entry in found if entry[2]]
    if len({folder.name for folder, _, _ in found}) < 2:
        _explain_nothing(root)
    _require_no_masks(root, {folder.name for folder, _, _ in found})
    classes = class_names([folder.name for folder, _, _ in found])
    items = []
    for folder, split, files in found:
        label = classes.index(folder.name)
        for path in files:
            inside = path.parent.relative_to(root).as_posix()
            bag = inside if path.parent != folder else ""
            name = path.relative_to(root).as_posix()
            items.append(LabelledItem(name, path, (label,), split, bag or name, None, bag))
    return LabelledSet(root, classes, False, tuple(items))


def _require_no_masks(root: Path, names: set[str]) -> None:
    """`DataError` if folders hold images and their masks, which any classifier tells apart."""
    images = sorted(name for name in names if name.lower() in _IMAGE_FOLDERS)
    masks = sorted(name for name in names if name.lower() in _MASK_FOLDERS)
    if images and masks:
        raise DataError(
            f"{root}: holds {images[0]}/ and {masks[0]}/, which are no classes; give a CSV with the columns "
            "image,label, or a folder for each class"
        )


def _explain_nothing(root: Path) -> None:
    tables = sorted(path.name for path in root.iterdir() if path.suffix.lower() in {".csv", ".tsv"})
    if tables:
        raise DataError(f"{root}: holds no folders of classes, but a table; give {root / tables[0]} instead")
    archives = sorted(path.name for path in root.iterdir() if path.suffix.lower() == ".npz")
    if archives:
        raise DataError(f"{root}: holds no folders of classes, but an archive; give {root / archives[0]} instead")
    raise DataError(
        f"{root}: holds no two folders of classes with images; expected a folder for each class, below train, val and "
        "test if there is a split, or a CSV with the columns image,label"
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> Iterator[Path]:
    """Images and volumes in a folder and below, sorted within each folder; hidden ones are left out."""
    for inside, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (path for path in (Path(inside, name) for name in sorted(names)) if is_readable_picture(path))


def is_readable_picture(path: Path) -> bool:
    """Whether a path looks like an image or a volume by its name."""
    return not path.name.startswith(".") and (is_image(path) or is_volume_file(path))
