"""COCO JSON: polygons and run lengths of all images in one file per part of the split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from guidino_cli.data.label_files.regions import Bitmap, Drawing, Region, make_ring
from guidino_cli.errors import DataError
from guidino_cli.json_files import read_json_object, require_type
from guidino_cli.preparation.label_files.contents import (
    ImageFinder,
    LabelContents,
    NamedDrawing,
    describe_count,
    first_repeated,
    image_root,
    make_dataset,
)
from guidino_cli.preparation.label_files.finding import MAX_BYTES, find_label_files, split_of_file
from guidino_cli.preparation.types import DiscoveredDataset
from guidino_cli.progress import join_first, pluralize

_HINT = "export the annotations again as COCO JSON"


class _Image(TypedDict):
    id: int | str
    file_name: str
    width: NotRequired[int | float | None]
    height: NotRequired[int | float | None]


class _Category(TypedDict):
    id: int
    name: NotRequired[str | None]


class _Annotation(TypedDict):
    image_id: int | str
    category_id: int | None
    segmentation: NotRequired[Any]
    iscrowd: NotRequired[int | bool | None]


class _Content(TypedDict):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def detect_coco(source: Path) -> DiscoveredDataset | None:
    """Read COCO JSON files and find their images; a region later in the file covers those before it.

    Raises:
        DataError: A damaged file, or categories without names.
    """
    files = find_label_files(source, "coco")
    if not files:
        return None
    root = image_root(source)
    splits = {path: split_of_file(path, root) for path in files}
    has_split = all(splits.values())
    contents = LabelContents()
    for path in files:
        _read_file(path, splits[path] if has_split else None, contents)
    official = "names of the label files" if has_split else ""
    evidence = describe_count(files, contents, "COCO")
    return make_dataset("coco", evidence, contents, ImageFinder(root), official=official)


def _read_file(path: Path, split: str | None, contents: LabelContents) -> None:
    raw = read_json_object(path, hint=_HINT, max_bytes=MAX_BYTES)
    content = require_type(raw, _Content, source=path, hint=_HINT)
    names = _read_categories(path, content["categories"])
    contents.categories += [name for _, name in sorted(names.items()) if name not in contents.categories]
    # Some tools write a number in one place and its text in another.
    by_image: dict[str, list[_Annotation]] = {}
    for annotation in content["annotations"]:
        by_image.setdefault(str(annotation["image_id"]), []).append(annotation)
    ids = [str(image["id"]) for image in content["images"]]
    if twice := first_repeated(ids):
        raise DataError(f"{path}: two images have the id {twice!r}; {_HINT}")
    if lost := [number for number in by_image if number not in set(ids)]:
        count = sum(len(by_image[number]) for number in lost)
        examples = join_first([repr(number) for number in lost])
        contents.notes.append(
            f"{path.name}: {pluralize(count, 'annotation')} left out, of images it does not list ({examples})"
        )
    crowd = 0
    for image in content["images"]:
        own = by_image.get(str(image["id"]), [])
        crowd += sum(bool(annotation.get("iscrowd")) for annotation in own)
        drawing = _make_drawing(path, image, own, names, contents)
        contents.images.append(NamedDrawing(image["file_name"], drawing, split))
    if crowd:
        contents.notes.append(f"{path.name}: {pluralize(crowd, 'crowd')} (iscrowd), drawn as their category")


def _read_categories(path: Path, categories: Sequence[_Category]) -> dict[int, str]:
    unnamed = [category["id"] for category in categories if not (category.get("name") or "").strip()]
    if unnamed:
        numbers = join_first([str(number) for number in unnamed])
        raise DataError(f"{path}: categories without a name: id {numbers}; give each a name in the file")
    if (twice := first_repeated(category["id"] for category in categories)) is not None:
        raise DataError(f"{path}: two categories have the id {twice}; give each its own in the file")
    names = {category["id"]: (category.get("name") or "").strip() for category in categories}
    if name := first_repeated(names.values()):
        raise DataError(f"{path}: two categories are named {name!r}; give each its own name in the file")
    return names


def _make_drawing(
    path: Path, image: _Image, annotations: Sequence[_Annotation], names: dict[int, str], contents: LabelContents
) -> Drawing:
    place = f"image {image['file_name']!r}"
    width, height = image.get("width"), image.get("height")
    size_hw = (int(height), int(width)) if width and height else None
    regions, without_outline = [], []
    for annotation in annotations:
        category = annotation["category_id"]
        if category is None or category not in names:
            problem = f"has an annotation of category {category}, which the file does not list"
            return Drawing(path, place, (), size_hw, problem)
        if not annotation.get("segmentation"):
            contents.left_out["COCO annotation without segmentation"] += 1
            without_outline.append(names[category])
            continue
        try:
            regions.append(_read_region(names[category], annotation.get("segmentation")))
        except ValueError as error:
            return Drawing(path, place, (), size_hw, str(error))
    return Drawing(path, place, tuple(regions), size_hw, without_outline=tuple(without_outline))


def _read_region(category: str, segmentation: Any) -> Region:
    if isinstance(segmentation, list):
        if not all(isinstance(part, list) for part in segmentation):
            raise ValueError("has a segmentation that is no list of polygons")
        return Region(category, tuple((make_ring(part),) for part in segmentation))
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError("has a segmentation that is neither polygons nor run lengths")
    size, counts = segmentation["size"], segmentation["counts"]
    if not _are_whole(size) or len(size) != 2 or min(size) < 1:
        raise ValueError(f"has run lengths of size {size!r:.40}, expected [height, width]")
    if isinstance(counts, str):
        return Region(category, bitmap=Bitmap(counts, "text", (size[0], size[1])))
    if not _are_whole(counts):
        raise ValueError("has run lengths that are no whole numbers")
    return Region(category, bitmap=Bitmap(counts, "columns", (size[0], size[1])))


def _are_whole(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in values)
