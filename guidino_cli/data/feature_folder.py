"""Folder of frozen features: vectors of every item, written once by `features`, read by `probe`.

    features.json        what made the vectors: backbone and its SHA-256, token, blocks, preprocessing; `complete`
    items.csv            a row an item: file, labels, split, patient, fold, bag, size, and how many vectors it has
    SPLIT/KIND.npy       (N, D) half precision; vectors of the items of a split in the order of items.csv
    parts/NUMBER.npz     vectors of some items while the folder is incomplete

KIND is `backbone`, or one of the controls `random` (a network of the same shape) and `pixels` (the picture itself).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.data.labelled.items import UNKNOWN, LabelledItem
from guidino_cli.errors import DataError, file_errors
from guidino_cli.files import write_text
from guidino_cli.json_files import read_json_object, require_type
from guidino_cli.tables import read_csv, to_csv

ABOUT_FILE, ITEMS_FILE, PARTS_FOLDER = "features.json", "items.csv", "parts"
BACKBONE, RANDOM, PIXELS = "backbone", "random", "pixels"
NO_SPLIT = "all"
"""Folder of the vectors of a set without a split."""
FORMAT = 1
_AGAIN = "run `guidino features` again with --overwrite"
_LABEL = "label"
_COLUMNS = (
    "id",
    "path",
    "array",
    "index",
    "split",
    "patient",
    "fold",
    "bag",
    "height",
    "width",
    "vectors",
    "error",
    "sha256",
)


@dataclass(frozen=True)
class FeatureItem:
    """An item and the vectors that it has.

    Attributes:
        item: The item; without the arrays of a prepared volume.
        size_hw: Height and width of its pictures; (0, 0) if it could not be read.
        start: Position of its first vector among those of its split.
        count: Number of its vectors: one of an image, one a slice of a volume, none if it is left out.
        error: Why it is left out; "" if it is not.
        sha256: The first 16 digits of its file's hash, as it was read.
    """

    item: LabelledItem
    size_hw: tuple[int, int]
    start: int
    count: int
    error: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class FeatureFolder:
    """A complete folder of features.

    Attributes:
        path: The folder.
        about: Content of features.json.
        classes: Names of the classes or labels.
        is_multilabel: Whether an item may have several.
        items: In the order of items.csv.
    """

    path: Path
    about: Mapping[str, Any]
    classes: tuple[str, ...]
    is_multilabel: bool
    items: tuple[FeatureItem, ...]
    _arrays: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the backbone, for tables."""
        return str(self.about["backbone"]["name"])

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of vectors that it has, the backbone's first."""
        return tuple(self.about["kinds"])

    def vectors_of(self, item: FeatureItem, kind: str) -> np.ndarray:
        """The vectors (count, D) of an item in half precision; a view of the file."""
        split = item.item.split or NO_SPLIT
        if (split, kind) not in self._arrays:
            path = self.path / split / f"{kind}.npy"
            with file_errors(path, "cannot be read as an array", hint=_AGAIN):
                self._arrays[split, kind] = np.load(path, mmap_mode="r", allow_pickle=False)
        array = self._arrays[split, kind]
        if array.ndim != 2 or item.start + item.count > len(array):
            raise DataError(f"{self.path / split / kind}.npy: holds {array.shape}, fewer than items.csv says; {_AGAIN}")
        return array[item.start : item.start + item.count]


def write_items(
    folder: Path, items: Sequence[FeatureItem], classes: Sequence[str], *, is_multilabel: bool, root: Path
) -> None:
    """Write items.csv; paths below `root` are relative to it."""
    labels = [f"{_LABEL}.{name}" for name in classes] if is_multilabel else [_LABEL]
    rows = []
    for entry in items:
        item = entry.item
        path = item.path.absolute()
        shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        own = (
            ["" if value == UNKNOWN else str(value) for value in item.labels]
            if is_multilabel
            else ["" if item.labels[0] == UNKNOWN else classes[item.labels[0]]]
        )
        fold = "" if item.fold is None else str(item.fold)
        place = [item.array, str(item.index), item.split, item.group, fold, item.bag]
        found = [*map(str, entry.size_hw), str(entry.count), entry.error, entry.sha256]
        rows.append([item.id, shown, *place, *found, *own])
    write_text(folder / ITEMS_FILE, to_csv([*_COLUMNS, *labels], rows))


def read_feature_folder(folder: Path) -> FeatureFolder:
    """Open a folder that `guidino features` has completed.

    Raises:
        DataError: No such folder, not of features, incomplete or damaged.
    """
    about = read_about(folder)
    if about is None:
        what = "no such folder" if not folder.exists() else f"no {ABOUT_FILE} in it"
        raise DataError(f"{folder}: {what}; make it with `guidino features DATA -o {folder}`")
    if not about["complete"]:
        raise DataError(f"{folder}: is not complete; run the same `guidino features` again, which goes on")
    classes = tuple(about["classes"])
    _, rows = read_csv(folder / ITEMS_FILE)
    root = Path(about["root"])
    items, starts = [], dict[str, int]()
    for line, row in enumerate(rows, start=2):
        with file_errors(f"{folder / ITEMS_FILE}: line {line}", "damaged", hint=_AGAIN):
            item = _read_item(row, classes, root, is_multilabel=about["multilabel"])
            count = int(row["vectors"])
            split = item.split or NO_SPLIT
            start = starts.get(split, 0)
            starts[split] = start + count
            size = (int(row["height"]), int(row["width"]))
            items.append(FeatureItem(item, size, start, count, row["error"], row["sha256"]))
    return FeatureFolder(folder, about, classes, about["multilabel"], tuple(items))


def read_about(folder: Path) -> dict[str, Any] | None:
    """Content of features.json, or None if there is none.

    Raises:
        DataError: Damaged, or of another format.
    """
    path = folder / ABOUT_FILE
    if not path.is_file():
        return None
    content = read_json_object(path, hint=_AGAIN)
    if content.get("format") != FORMAT:
        raise DataError(f"{path}: written in format {content.get('format')!r}, this guidino reads {FORMAT}; {_AGAIN}")
    kinds: dict[str, type] = {
        "complete": bool, "multilabel": bool, "root": str, "backbone": dict, "classes": list, "kinds": list,
        "settings": dict, "source": str, "items_sha256": str,
    }  # fmt: skip
    for name, kind in kinds.items():
        if name not in content:
            raise DataError(f"{path}: damaged (no {name}); {_AGAIN}")
        require_type(content[name], kind, source=path, hint=_AGAIN, what=name)
    return content


def _read_item(row: Mapping[str, str], classes: Sequence[str], root: Path, *, is_multilabel: bool) -> LabelledItem:
    if is_multilabel:
        texts = [row[f"{_LABEL}.{name}"] for name in classes]
        labels = tuple(int(text) if text else UNKNOWN for text in texts)
    else:
        labels = (classes.index(row[_LABEL]) if row[_LABEL] else UNKNOWN,)
    return LabelledItem(
        id=row["id"],
        path=root / row["path"],
        labels=labels,
        split=row["split"],
        group=row["patient"],
        fold=int(row["fold"]) if row["fold"] else None,
        bag=row["bag"],
        array=row["array"],
        index=int(row["index"]),
    )
