"""Contents of a label file in a form common to all tools, and the data set that its images make."""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

from guidino_cli.data.images import find_images
from guidino_cli.data.label_files.regions import Drawing
from guidino_cli.errors import DataError
from guidino_cli.files import relative_posix
from guidino_cli.preparation.generic_layouts import find_split_word, parse_folder_name
from guidino_cli.preparation.label_files.finding import find_label_files
from guidino_cli.preparation.types import DiscoveredDataset, ImageMaskPair, apply_split_lists
from guidino_cli.progress import join_first, pluralize

_HASH_PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""Label Studio puts it before the names of uploaded files."""
BACKGROUND = "background"
Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True)
class NamedDrawing:
    """An image as a label file names it.

    Attributes:
        name: Its file, with or without folders; `x.` for one whose suffix is not known.
        drawing: Its regions.
        split: Part of the split that the label file states, or None.
        is_embedded: Whether the label file holds the image itself, too, which is not read.
    """

    name: str
    drawing: Drawing
    split: str | None = None
    is_embedded: bool = False


@dataclass
class LabelContents:
    """All label files of a data set.

    Attributes:
        images: In the order of the files.
        categories: Names in the order of their class indices.
        left_out: Kind of annotation that is no region -> how many there are.
        notes: Further remarks.
    """

    images: list[NamedDrawing] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add_unlisted_categories(self) -> None:
        """Add the categories that occur and that no label file lists, sorted by name."""
        found = {region.category for image in self.images for region in image.drawing.regions}
        self.categories += sorted(found - set(self.categories))


class ImageFinder:
    """Finds the images that label files name, whatever folder these name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for path in find_images(root, recursive=True):
            self._by_name.setdefault(path.name, []).append(path)
            self._by_stem.setdefault(path.stem, []).append(path)

    def find(self, image: NamedDrawing) -> Path | None:
        """The file of an image; None if nobody has it.

        Raises:
            DataError: Several files could be meant.
        """
        name = PurePosixPath(image.name.replace("\\", "/"))
        candidates = self._by_name.get(name.name) or self._by_name.get(_HASH_PREFIX.sub("", name.name), [])
        if not candidates and name.name.endswith("."):
            # The label file is named as the image, whose suffix is not known.
            candidates = self._by_stem.get(name.name[:-1], [])
        tails = [_common_tail(path, name) for path in candidates]
        candidates = [path for path, tail in zip(candidates, tails, strict=True) if tail == max(tails)]
        near = [self._nearness(path, image) for path in candidates]
        candidates = [path for path, nearness in zip(candidates, near, strict=True) if nearness == max(near)]
        if len(candidates) > 1:
            found = join_first([relative_posix(path, self.root) for path in candidates])
            raise DataError(
                f"{image.drawing.source}: {image.drawing.place} may be any of {found}; name it with its folder there, "
                "or rename the files"
            )
        return candidates[0] if candidates else None

    def in_folders_of(self, paths: Sequence[Path]) -> list[Path]:
        """All images in the folders of some of them."""
        folders = {path.parent for path in paths}
        return [path for found in self._by_name.values() for path in found if path.parent in folders]

    def _nearness(self, path: Path, image: NamedDrawing) -> tuple[bool, bool, int, int]:
        """Whether an image lies in no folder of masks, in one of the label file's part of the split; shared folders.

        The folders are shared from the root on, and then from the file on, as in images/p1/ and labels/p1/.
        """
        folders = path.parent.parts, image.drawing.source.parent.parts
        shared = _common_parts(*folders)
        alike = _common_parts(folders[0][::-1], folders[1][::-1])
        parts = path.parent.relative_to(self.root).parts if path.is_relative_to(self.root) else ()
        split = next((word for part in parts if (word := find_split_word(part))), "")
        is_mask = parse_folder_name(Path(*parts))[0] == "mask"
        return not is_mask, bool(image.split) and split == image.split, shared, alike


def _common_tail(path: Path, name: PurePosixPath) -> int:
    return _common_parts(path.parts[-2::-1], name.parts[-2::-1])


def _common_parts(first: Sequence[str], second: Sequence[str]) -> int:
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def first_repeated(items: Iterable[Item]) -> Item | None:
    """The first of the items that occur more than once; None if all differ."""
    return next((item for item, count in Counter(items).items() if count > 1), None)


def image_root(source: Path) -> Path:
    """Folder in and below which images are looked for: the source, or that of a label file, or that above `labels/`."""
    if source.is_dir():
        return source
    words = re.split(r"[-_ .]+", source.parent.name.lower())
    beside = {"annotations", "annotation", "labels", "label", "json", "jsons", "xml"} & set(words)
    return source.parent.parent if beside else source.parent


def detect_tool(
    source: Path, layout: str, tool: str, read_file: Callable[[Path, LabelContents], None]
) -> DiscoveredDataset | None:
    """Read the label files of a tool that names images, not folders of a split; None if there are none.

    Args:
        source: A folder, or one label file.
        layout: Name of the layout.
        tool: Name of the tool, for the evidence.
        read_file: Adds the images of a label file, and the categories that it lists, to the contents.

    Raises:
        DataError: A file that `read_file` refuses, or see `make_dataset`.
    """
    files = find_label_files(source, layout)
    if not files:
        return None
    contents = LabelContents()
    for path in files:
        read_file(path, contents)
    contents.add_unlisted_categories()
    return make_dataset(layout, describe_count(files, contents, tool), contents, ImageFinder(image_root(source)))


def make_dataset(
    layout: str,
    evidence: str,
    contents: LabelContents,
    finder: ImageFinder,
    *,
    official: str = "",
) -> DiscoveredDataset:
    """A data set of the images of label files.

    Args:
        layout: Its name.
        evidence: Why it was recognised.
        contents: Contents of the label files.
        finder: Finds the images.
        official: Where the split comes from, if the images have one.

    Raises:
        DataError: No category, more than 254, none because of a problem, or images named twice.
    """
    source = finder.root
    categories = [name for name in contents.categories if name != BACKGROUND]
    if not categories:
        for image in contents.images:
            # Without it there would be regions.
            if image.drawing.problem:
                raise DataError(f"{image.drawing.source}: {image.drawing.place} {image.drawing.problem}")
        if boxes := sum(len(image.drawing.without_outline) for image in contents.images):
            marked = f"{pluralize(boxes, 'object')} without an outline (a box?), expected polygons or masks"
            raise DataError(f"{source}: its label files ({evidence}) mark {marked}; outline them, and export again")
        left_out = f"; left out: {_describe_left_out(contents)}" if contents.left_out else ""
        raise DataError(f"{source}: its label files ({evidence}) name no category, expected at least one{left_out}")
    if len(categories) > 254:
        raise DataError(f"{source}: {len(categories)} categories, expected up to 254; choose some with --classes")
    found = [(image, finder.find(image)) for image in contents.images]
    missing = [_describe_missing(image) for image, path in found if path is None]
    pairs = [_make_pair(image, path) for image, path in found if path is not None]
    _require_one_drawing(pairs)
    used = {pair.images[0] for pair in pairs}
    unmatched = [path for path in finder.in_folders_of(sorted(used)) if path not in used]
    notes = list(contents.notes)
    if contents.left_out:
        notes.append(f"annotations that outline no region, left out: {_describe_left_out(contents)}")
    dataset = DiscoveredDataset(
        layout,
        evidence,
        sorted(_make_ids_unique(pairs, source), key=lambda pair: pair.id),
        sorted(unmatched),
        notes=notes,
        class_names=(BACKGROUND, *categories),
        official=official,
        missing_images=missing,
    )
    return apply_split_lists(dataset, source) if source.is_dir() and not missing else dataset


def _describe_left_out(contents: LabelContents) -> str:
    return ", ".join(f"{kind} ({count})" for kind, count in sorted(contents.left_out.items()))


def _describe_missing(image: NamedDrawing) -> str:
    name = image.name.rstrip(".")
    inside = f" is only inside {image.drawing.source.name} as imageData, save it as a file" if image.is_embedded else ""
    return name + inside


def _make_pair(image: NamedDrawing, path: Path) -> ImageMaskPair:
    return ImageMaskPair(path.stem, (path,), (image.drawing.source,), split=image.split, drawing=image.drawing)


def _require_one_drawing(pairs: Sequence[ImageMaskPair]) -> None:
    seen: dict[Path, Drawing] = {}
    for pair in pairs:
        assert pair.drawing is not None
        before = seen.setdefault(pair.images[0], pair.drawing)
        if before is not pair.drawing:
            first, second = (f"{item.source} ({item.place})" for item in (before, pair.drawing))
            raise DataError(f"{pair.images[0]}: is labelled twice, by {first} and {second}; remove one")


def _make_ids_unique(pairs: Sequence[ImageMaskPair], root: Path) -> list[ImageMaskPair]:
    """The pairs with the folders in their ids if a name occurs in several."""
    if len({pair.id.lower() for pair in pairs}) == len(pairs):
        return list(pairs)
    return [
        replace(pair, id=Path(relative_posix(pair.images[0], root)).with_suffix("").as_posix().replace("/", "_"))
        for pair in pairs
    ]


def describe_count(files: Sequence[Path], contents: LabelContents, kind: str) -> str:
    """Evidence in one sentence: files, regions and images."""
    regions = sum(len(image.drawing.regions) for image in contents.images)
    names = join_first([path.name for path in files], limit=3)
    return f"{kind} {names} with {pluralize(regions, 'region')} of {pluralize(len(contents.images), 'image')}"
