"""Labels by table: a CSV with a column `image`, one or several label columns, and patient, split, fold and bag."""

from collections.abc import Sequence
from pathlib import Path

from guidino_cli.data.labelled.items import SPLIT_NAMES, UNKNOWN, LabelledItem, LabelledSet, class_names
from guidino_cli.errors import ConfigError, DataError, unknown_name
from guidino_cli.progress import join_first
from guidino_cli.tables import path_of_cell, read_csv

_IMAGES = ("image", "image_path", "path", "file", "filename", "volume", "tile")
_GROUPS = ("patient", "patient_id", "group")
_LABELS = ("label", "class")
_OTHERS = ("split", "fold", "bag")
_MISSING = {"", "-1", "-1.0"}
_BINARY = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, **dict.fromkeys(_MISSING, UNKNOWN)}


def read_label_table(path: Path, labels: Sequence[str] = ()) -> LabelledSet:
    """Read a table of labels; paths of images are relative to its folder.

    One label column holds names of classes, unless all that it holds is 0, 1 and blank and it was named with others:
    several columns are labels of their own, of 0 and 1. A blank cell or -1 is unknown.

    Args:
        path: The CSV.
        labels: Columns; by default `label` or `class`, else all columns that hold 0, 1, -1 and blanks only.

    Raises:
        ConfigError: A column that does not exist.
        DataError: No column of images or labels, or a cell that is no label, split or fold.
    """
    headings, rows = read_csv(path)
    if not rows:
        raise DataError(f"{path}: has no rows")
    image = _find_column(headings, _IMAGES)
    if image is None:
        raise DataError(f"{path}: has no column image (found {join_first(headings)}); name that of the files so")
    columns, notes = _label_columns(path, headings, rows, labels)
    is_multilabel = len(columns) > 1
    if is_multilabel:
        classes = tuple(columns)
        values = [_read_binary(path, row, columns, line) for line, row in enumerate(rows, start=2)]
    else:
        texts = [_class_text(path, row[columns[0]], columns[0], line) for line, row in enumerate(rows, start=2)]
        classes = class_names([text for text in texts if text])
        values = [(classes.index(text) if text else UNKNOWN,) for text in texts]
    group = _find_column(headings, _GROUPS)
    items = []
    for line, (row, own) in enumerate(zip(rows, values, strict=True), start=2):
        name = row[image].strip()
        if not name:
            raise DataError(f"{path}: line {line} names no image")
        items.append(
            LabelledItem(
                id=name,
                path=path_of_cell(path.parent, name),
                labels=own,
                split=_read_split(path, row, line),
                group=(row[group].strip() if group else "") or row.get("bag", "").strip() or name,
                fold=_read_fold(path, row, line),
                bag=row.get("bag", "").strip(),
            )
        )
    return LabelledSet(path, classes, is_multilabel, tuple(items), tuple(notes))


def _find_column(headings: Sequence[str], names: Sequence[str]) -> str | None:
    return next((heading for name in names for heading in headings if heading.strip().lower() == name), None)


def _label_columns(
    path: Path, headings: Sequence[str], rows: Sequence[dict[str, str]], labels: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The label columns, and what was decided about them."""
    for name in labels:
        if name not in headings:
            raise ConfigError(f"--label: {path}: {unknown_name('column', name, headings)}")
    if labels:
        return list(labels), []
    single = _find_column(headings, _LABELS)
    if single is not None:
        return [single], []
    taken = {*_IMAGES, *_GROUPS, *_OTHERS}
    others = [name for name in headings if name.strip() and name.strip().lower() not in taken]
    binary = [name for name in others if all(row[name].strip() in _BINARY for row in rows)]
    if not binary:
        raise DataError(
            f"{path}: has no column label, and none of 0 and 1 (found {join_first(headings)}); name it with --label"
        )
    left = [name for name in others if name not in binary]
    note = f"labels are the columns of 0 and 1: {join_first(binary)}"
    return binary, [note + (f"; not {join_first(left)}" if left else "")]


def _class_text(path: Path, text: str, column: str, line: int) -> str:
    """The name of a class; "" if it is unknown."""
    name = text.strip()
    if name.lower() in {"nan", "inf", "-inf"}:
        raise DataError(f"{path}: line {line}: {column} is {name}, expected a class; leave it blank if it is unknown")
    return "" if name in _MISSING else name


def _read_binary(path: Path, row: dict[str, str], columns: Sequence[str], line: int) -> tuple[int, ...]:
    for name in columns:
        if row[name].strip() not in _BINARY:
            raise DataError(
                f"{path}: line {line}: {name} is {row[name]!r:.40}, expected 0 or 1, or blank (or -1) if it is unknown"
            )
    return tuple(_BINARY[row[name].strip()] for name in columns)


def _read_split(path: Path, row: dict[str, str], line: int) -> str:
    text = row.get("split", "").strip().lower()
    if text and text not in SPLIT_NAMES:
        raise DataError(f"{path}: line {line}: split is {text!r:.40}, expected train, val or test")
    return SPLIT_NAMES.get(text, "")


def _read_fold(path: Path, row: dict[str, str], line: int) -> int | None:
    text = row.get("fold", "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise DataError(f"{path}: line {line}: fold is {text!r:.40}, expected a whole number from 0")
    return int(text)
