"""YOLO segmentation: data.yaml, and one text file per image with one polygon per line in shares of width and height."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from guidino_cli.data.images import find_images, is_image
from guidino_cli.data.label_files.regions import Drawing, Region, make_ring, require_shares
from guidino_cli.errors import DataError
from guidino_cli.files import relative_posix
from guidino_cli.preparation.label_files.contents import (
    ImageFinder,
    LabelContents,
    NamedDrawing,
    describe_count,
    first_repeated,
    make_dataset,
)
from guidino_cli.preparation.types import DiscoveredDataset, read_names
from guidino_cli.progress import join_first, pluralize
from guidino_cli.yaml_files import read_yaml

_HINT = "expected YOLO's data.yaml with names, train, val and test"
_SPLITS = ("train", "val", "test")


def detect_yolo(source: Path) -> DiscoveredDataset | None:
    """Read data.yaml, its images, and `labels/x.txt` of every `images/x.jpg`; later lines cover earlier ones.

    An image without a text file has no object, as in YOLO itself; the notes count them.

    Raises:
        DataError: A damaged data.yaml, a class without a name, or a part of the split that is not there.
    """
    path = _find_description(source)
    if path is None:
        return None
    description = _read_description(path)
    names = _read_class_names(path, description)
    contents = LabelContents(categories=list(names))
    images = {
        split: list(dict.fromkeys(_find_images_of(path, description, split)))
        for split in _SPLITS
        if description.get(split)
    }
    _require_one_part(path, images)
    unlabelled = []
    for split, paths in images.items():
        for image in paths:
            label = _label_file(image)
            if not label.is_file():
                unlabelled.append(image.name)
            drawing = _read_label_file(label, image, names)
            contents.images.append(NamedDrawing(str(image), drawing, split))
    if not contents.images:
        raise DataError(f"{path}: none of its folders holds an image; {_HINT}")
    if len(unlabelled) == len(contents.images):
        wanted = _label_file(Path(contents.images[0].name))
        raise DataError(f"{path}: no image has a label file, expected {wanted} and so on")
    if unlabelled:
        contents.notes.append(
            f"{pluralize(len(unlabelled), 'image')} without a text file, empty as in YOLO: {join_first(unlabelled)}"
        )
    evidence = describe_count([path], contents, "YOLO")
    return make_dataset("yolo", evidence, contents, _ExactFinder(path.parent), official=f"{path.name}")


def _require_one_part(path: Path, images: Mapping[str, Sequence[Path]]) -> None:
    part_of: dict[Path, str] = {}
    for split, paths in images.items():
        for image in paths:
            first = part_of.setdefault(image.resolve(), split)
            if first != split:
                name = relative_posix(image, path.parent)
                raise DataError(f"{path}: {name} is in {first} and in {split}; leave every image in one part")


class _ExactFinder(ImageFinder):
    """Takes the images by their paths, which were found already."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, image: NamedDrawing) -> Path | None:
        return Path(image.name)

    def in_folders_of(self, paths: object) -> list[Path]:
        return []


def _find_description(source: Path) -> Path | None:
    if source.is_file():
        return source if source.suffix.lower() in {".yaml", ".yml"} else None
    named = [source / name for name in ("data.yaml", "dataset.yaml", "data.yml") if (source / name).is_file()]
    others = [path for path in sorted(source.iterdir()) if path.suffix.lower() in {".yaml", ".yml"}]
    return next((path for path in [*named, *others] if _looks_like_description(path)), None)


def _looks_like_description(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    lines = text.splitlines()
    return any(line.startswith(("train:", "val:")) for line in lines) and (
        any(line.startswith(("names:", "nc:")) for line in lines)
    )


def _read_description(path: Path) -> dict[Any, Any]:
    description = read_yaml(path, hint=_HINT, error=DataError)
    if not isinstance(description, dict):
        raise DataError(f"{path}: holds {type(description).__name__}; {_HINT}")
    return description


def _read_class_names(path: Path, description: dict[Any, Any]) -> list[str]:
    names = description.get("names")
    if isinstance(names, dict):
        try:
            by_index = {int(index): name for index, name in names.items()}
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: names has an index that is no whole number; {_HINT}") from error
        if sorted(by_index) != list(range(len(by_index))):
            raise DataError(f"{path}: names has the indices {sorted(by_index)}, expected 0, 1, 2, ... without gaps")
        names = [by_index[index] for index in range(len(by_index))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: names no classes under `names`, expected such as `names: [polyp]`")
    unnamed = [index for index, name in enumerate(names) if name is None or not str(name).strip()]
    if unnamed:
        raise DataError(f"{path}: classes without a name: {join_first([str(index) for index in unnamed])}")
    count = description.get("nc")
    if isinstance(count, int) and count != len(names):
        raise DataError(f"{path}: nc is {count}, but {pluralize(len(names), 'class', 'classes')} named; correct one")
    texts = [str(name).strip() for name in names]
    if name := first_repeated(texts):
        raise DataError(f"{path}: two classes are named {name!r}; give each its own name")
    return texts


def _find_images_of(path: Path, description: dict[Any, Any], split: str) -> Iterator[Path]:
    """Images of a part: a folder, a list of files, or several of them."""
    entries = description[split]
    for entry in entries if isinstance(entries, list) else [entries]:
        found = _resolve(path, str(description.get("path") or ""), str(entry))
        if found is None:
            raise DataError(f"{path}: {split} is {str(entry)!r}, but no such folder or list is there; correct it")
        if found.is_dir():
            yield from find_images(found, recursive=True)
            continue
        for name in read_names(found):
            image = found.parent / name.replace("\\", "/")
            if not is_image(image) or not image.is_file():
                raise DataError(f"{found}: names {name!r}, which is no image there; correct the list")
            yield image


def _resolve(path: Path, root: str, entry: str) -> Path | None:
    """Path of an entry of data.yaml; data sets that were moved are searched next to data.yaml."""
    beside = path.parent
    entry = entry.replace("\\", "/")
    # Roboflow writes ../train/images for train/images.
    inside = entry.removeprefix("./")
    while inside.startswith("../"):
        inside = inside.removeprefix("../")
    candidates = [beside / root / entry, beside / entry, beside / inside]
    return next((item for item in candidates if item.is_dir() or (item.suffix == ".txt" and item.is_file())), None)


def _label_file(image: Path) -> Path:
    """`labels/x.txt` of `images/x.jpg`, by the last folder named images; beside the image if there is none."""
    parts = list(image.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts) / f"{image.stem}.txt"


def _read_label_file(path: Path, image: Path, names: list[str]) -> Drawing:
    place = f"image {image.name!r}"
    if not path.is_file():
        return Drawing(path, place, ())
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        regions = [_read_line(line, number, names) for number, line in enumerate(lines, start=1) if line.strip()]
    except UnicodeDecodeError as error:
        problem = f"has a label file that is not UTF-8 text at byte {error.start}; save it as such"
        return Drawing(path, place, (), problem=problem)
    except OSError as error:
        return Drawing(path, place, (), problem=f"has a label file that cannot be read ({error.strerror})")
    except ValueError as error:
        return Drawing(path, place, (), problem=str(error))
    return Drawing(path, place, tuple(regions))


def _read_line(line: str, number: int, names: list[str]) -> Region:
    first, *rest = line.split()
    if not first.isascii() or not first.isdigit() or int(first) >= len(names):
        raise ValueError(f"has class {first!r:.20} in line {number}, expected 0 to {len(names) - 1}")
    try:
        numbers = [float(text) for text in rest]
    except ValueError as error:
        raise ValueError(f"has line {number} with {str(error).rpartition(':')[2].strip():.40}, no number") from error
    if len(numbers) == 4 and all(map(math.isfinite, numbers)):
        raise ValueError(f"has a box in line {number}, expected a polygon of at least 3 points")
    try:
        return Region(names[int(first)], ((require_shares(make_ring(numbers)),),), is_relative=True)
    except ValueError as error:
        raise ValueError(f"{error} (line {number})") from error
