"""Items of a data set with class labels, and the checks that every layout shares."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from guidino_cli.errors import DataError
from guidino_cli.progress import join_first
from guidino_cli.types import StoredVolume

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What the parts of a split are called, in folders and tables, by what they are."""
UNKNOWN = -1
"""Label of which nothing is known; it takes part in no loss and no metric."""


@dataclass(frozen=True)
class LabelledItem:
    """An image, a tile or a volume with its labels.

    Attributes:
        id: Unique within its set.
        path: File; an archive may hold many items.
        labels: Of a single-label set the index of the class, alone; of a multi-label set 0 or 1 a class. -1 is
            unknown.
        split: "train", "val" or "test"; "" without a split.
        group: What a split keeps together, such as the patient; the item's own id by default.
        fold: Cross-validation fold; None without folds.
        bag: Name of the bag of a tile; "" for an item that is its own bag.
        array: Name of the array in an archive; "" for a file of its own.
        index: Position in that array.
        volume: The stored arrays of a prepared volume.
    """

    id: str
    path: Path
    labels: tuple[int, ...]
    split: str = ""
    group: str = ""
    fold: int | None = None
    bag: str = ""
    array: str = ""
    index: int = 0
    volume: StoredVolume | None = None


@dataclass(frozen=True)
class LabelledSet:
    """A data set with class labels.

    Attributes:
        source: What was read.
        classes: Names; of a multi-label set those of its labels.
        is_multilabel: Whether an item may have several classes, or none.
        items: In a fixed order.
        notes: Decisions that the user may want to know of.
    """

    source: Path
    classes: tuple[str, ...]
    is_multilabel: bool
    items: tuple[LabelledItem, ...]
    notes: tuple[str, ...] = ()


def require_usable(data: LabelledSet) -> LabelledSet:
    """The set itself, if something can be learned and tested on it.

    Raises:
        DataError: No items, an id twice, labels of one class only, a patient or a bag in two parts of the split or in
            two folds, or a bag with two labels or patients.
    """
    if not data.items:
        raise DataError(f"{data.source}: holds no images")
    twice = [name for name, count in Counter(item.id for item in data.items).items() if count > 1]
    if twice:
        verb = "comes" if len(twice) == 1 else "come"
        raise DataError(f"{data.source}: {join_first(twice, limit=3)} {verb} twice; name every image once")
    _require_two_classes(data)
    for what, key in (("patient", _patient), ("bag", _bag)):
        _require_together(data, what, key, "parts of the split", lambda item: item.split)
        _require_together(data, what, key, "folds", lambda item: "" if item.fold is None else str(item.fold))
    _require_together(data, "bag", _bag, "labels", lambda item: str(item.labels))
    _require_together(data, "bag", _bag, "patients", lambda item: item.group)
    return data


def _patient(item: LabelledItem) -> str:
    return item.group if item.group != item.id else ""


def _bag(item: LabelledItem) -> str:
    return item.bag


def _require_two_classes(data: LabelledSet) -> None:
    if data.is_multilabel:
        varied = [
            name for number, name in enumerate(data.classes) if {0, 1} <= {item.labels[number] for item in data.items}
        ]
        if not varied:
            raise DataError(
                f"{data.source}: every label is constant ({join_first(data.classes)}); a probe needs a label that "
                "some images have and others lack"
            )
        return
    found = sorted({item.labels[0] for item in data.items} - {UNKNOWN})
    if len(found) < 2:
        only = f"one class ({data.classes[found[0]]})" if found else "no known label"
        raise DataError(f"{data.source}: has {only}, expected two classes or more; choose another label column")


def _require_together(
    data: LabelledSet,
    what: str,
    key: Callable[[LabelledItem], str],
    parts: str,
    value: Callable[[LabelledItem], str],
) -> None:
    """Require that items of one name share a value."""
    seen: dict[str, str] = {}
    torn: dict[str, tuple[str, str]] = {}
    for item in data.items:
        name = key(item)
        if name and seen.setdefault(name, value(item)) != value(item):
            torn.setdefault(name, (seen[name], value(item)))
    if not torn:
        return
    first, (one, other) = next(iter(torn.items()))
    more = f" ({len(torn)} such {what}s)" if len(torn) > 1 else ""
    if parts == "patients":
        raise DataError(
            f"{data.source}: bag {first} has two patients, {one} and {other}{more}; folds keep a patient together, so "
            "every row of a bag states the same one"
        )
    raise DataError(
        f"{data.source}: {what} {first} is in two {parts}, {one or 'none'} and {other or 'none'}{more}; correct the "
        "table, or scores would be of images that were learned from"
        if parts != "labels"
        else f"{data.source}: bag {first} has two labels{more}; every row of a bag states the label of the bag"
    )


def class_names(values: Sequence[str]) -> tuple[str, ...]:
    """Distinct names in the order of a reader: numbers by size, else by alphabet."""
    names = set(values)
    if all(name.lstrip("-").isdigit() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))
