"""Detect and read the layout of a data set with class labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from guidino_cli.data.labelled.archives import is_archive_folder, read_medmnist
from guidino_cli.data.labelled.folders import read_class_folders
from guidino_cli.data.labelled.items import UNKNOWN, LabelledItem, LabelledSet, class_names, require_usable
from guidino_cli.data.labelled.tables import read_label_table
from guidino_cli.data.manifest import is_prepared, load_manifest
from guidino_cli.errors import ConfigError, DataError, unknown_name
from guidino_cli.progress import join_first

_LAYOUTS = (
    "a folder with one folder per class, a CSV with the columns image,label, a MedMNIST .npz, or a folder made by "
    "`guidino prepare`"
)


def read_labelled_set(place: Path, *, labels: Sequence[str] = (), names: Sequence[str] = ()) -> LabelledSet:
    """Read a data set in any layout.

    Args:
        place: Folder of classes, table, archive, or prepared folder.
        labels: Label columns of a table, or a field of a prepared folder such as `fields.kind`.
        names: Names of the classes, for archives, which have none.

    Raises:
        ConfigError: Options that do not fit the layout.
        DataError: Nothing that can be read, or see `require_usable`.
    """
    if not place.exists():
        raise DataError(f"{place}: no such file or folder; expected {_LAYOUTS}")
    suffix = place.suffix.lower()
    if is_prepared(place):
        data = _read_prepared(place, labels)
    elif suffix in {".csv", ".tsv"}:
        data = read_label_table(place, labels)
    elif labels:
        raise ConfigError(f"--label {','.join(labels)}: {place} has no columns; it is for tables and prepared folders")
    elif suffix == ".npz" or (place.is_dir() and is_archive_folder(place)):
        data = read_medmnist(place)
    elif place.is_dir():
        data = read_class_folders(place)
    else:
        raise DataError(f"{place}: not a data set with labels; expected {_LAYOUTS}")
    return require_usable(_rename(data, names))


def _rename(data: LabelledSet, names: Sequence[str]) -> LabelledSet:
    if not names:
        return data
    if len(names) != len(data.classes) or len(set(names)) < len(names):
        raise ConfigError(
            f"--classes {','.join(names)}: expected {len(data.classes)} different names, for {join_first(data.classes)}"
        )
    return replace(data, classes=tuple(names))


def _read_prepared(place: Path, labels: Sequence[str]) -> LabelledSet:
    manifest = load_manifest(place)
    if len(labels) != 1 or not labels[0].startswith("fields."):
        known = sorted({name for case in manifest.cases for name in case.fields})
        found = f"it has {join_first(known)}" if known else "it has none: prepare it from a table with further columns"
        raise ConfigError(f"{place}: is prepared; name one of its fields, such as --label fields.kind ({found})")
    name = labels[0].removeprefix("fields.")
    if not any(name in case.fields for case in manifest.cases):
        fields = {field for case in manifest.cases for field in case.fields}
        raise ConfigError(f"--label {labels[0]}: {place}: {unknown_name('field', name, fields)}")
    texts = [case.fields.get(name, "").strip() for case in manifest.cases]
    if "nan" in {text.lower() for text in texts}:
        raise DataError(f"{place}: {name} of a case is NaN, expected a class; leave it blank if it is unknown")
    classes = class_names([text for text in texts if text])
    items = tuple(
        LabelledItem(
            id=case.id,
            path=case.image,
            labels=(classes.index(text) if text else UNKNOWN,),
            split=case.split,
            group=case.group,
            fold=case.fold,
            volume=case.volume,
        )
        for case, text in zip(manifest.cases, texts, strict=True)
    )
    return LabelledSet(place, classes, False, items)
