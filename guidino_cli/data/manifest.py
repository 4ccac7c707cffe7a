"""Manifest of a prepared data set, `cases.json`: written by `prepare`, read by every other command."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guidino_cli.errors import DataError
from guidino_cli.files import describe_unsafe_name, relative_posix, write_text
from guidino_cli.types import Case

MANIFEST_FORMAT = 1
MANIFEST_NAME = "cases.json"


@dataclass(frozen=True)
class Manifest:
    """A prepared data set.

    Attributes:
        name: Short name of the data set.
        classes: Class names; the index is the value in the masks, 0 is the background.
        cases: All cases, sorted by id.
        source: Provenance for readers: layout, mask rule, split rule, seed, findings.
    """

    name: str
    classes: list[str]
    cases: list[Case]
    source: dict[str, Any] = field(default_factory=dict)

    def select(self, split: str, fold: int | None = None) -> list[Case]:
        """Cases of "train", "val" or "test".

        With a fold, the training cases of that fold are the validation set and the other folds the training set.

        Raises:
            DataError: The folds do not exist.
        """
        if fold is None or split == "test":
            return [case for case in self.cases if case.split == split]
        known = sorted({case.fold for case in self.cases if case.fold is not None})
        if fold not in known:
            found = f"folds {known[0]}..{known[-1]}" if known else "no folds"
            raise DataError(f"data.fold is {fold}, but the data has {found}; make them with `guidino prepare --folds`")
        return [case for case in self.cases if case.fold is not None and (case.fold == fold) == (split == "val")]


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `cases.json` into a folder; paths are stored relative to it, one case a line."""
    header = {"format": MANIFEST_FORMAT, "name": manifest.name, "classes": manifest.classes, "source": manifest.source}
    lines = ",\n".join("    " + json.dumps(_case_to_json(case, folder), ensure_ascii=False) for case in manifest.cases)
    text = json.dumps(header, indent=2, ensure_ascii=False).removesuffix("\n}")
    write_text(folder / MANIFEST_NAME, f'{text},\n  "cases": [\n{lines}\n  ]\n}}\n')


def load_manifest(folder: Path) -> Manifest:
    """Read the manifest of a prepared data folder (or the path of its `cases.json`).

    Raises:
        DataError: Not a prepared folder, damaged, or written by a version with another format.
    """
    path = folder if folder.name == MANIFEST_NAME else folder / MANIFEST_NAME
    if not folder.exists():
        raise DataError(f"{folder}: no such folder")
    if not path.is_file():
        raise DataError(
            f"{folder}: no {MANIFEST_NAME}; make it with `guidino prepare {folder} -o DATA` and give DATA instead"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
        if version != MANIFEST_FORMAT:
            raise DataError(
                f"{path}: written in format {version}, this guidino reads format {MANIFEST_FORMAT}; "
                f"run `guidino prepare` again"
            )
        cases = [_case_from_json(item, path.parent) for item in content["cases"]]
        return Manifest(content["name"], content["classes"], cases, content["source"])
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: damaged ({reason}); run `guidino prepare` again") from error


def require_cases(cases: Sequence[Case], split: str, folder: Path) -> Sequence[Case]:
    """The cases, or a `DataError` if there are none."""
    if not cases:
        raise DataError(f"{folder}: no cases in the {split} split; run `guidino prepare` with another --split")
    return cases


def count_empty(cases: Sequence[Case]) -> int:
    """Number of labelled cases without a pixel of foreground."""
    return sum(case.mask is not None and case.foreground == 0 for case in cases)


def _case_to_json(case: Case, folder: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": case.id,
        "image": _relative_path(case.image, folder),
        "mask": None if case.mask is None else _relative_path(case.mask, folder),
        "split": case.split,
        "fold": case.fold,
        "group": case.group,
        "size_hw": list(case.size_hw),
        "foreground": case.foreground,
    }
    return entry | ({"fields": case.fields} if case.fields else {})


def _case_from_json(item: dict[str, Any], folder: Path) -> Case:
    name = item["id"]
    if not isinstance(name, str) or (problem := describe_unsafe_name(name)):
        reason = problem if isinstance(name, str) else "is no text"
        raise DataError(
            f"{folder / MANIFEST_NAME}: the case id {name!r} {reason}, and files are named by it; "
            "run `guidino prepare` again"
        )
    return Case(
        id=name,
        image=folder / item["image"],
        mask=None if item["mask"] is None else folder / item["mask"],
        split=item["split"],
        fold=item["fold"],
        group=item["group"],
        size_hw=(item["size_hw"][0], item["size_hw"][1]),
        foreground=item["foreground"],
        fields={name: str(value) for name, value in item.get("fields", {}).items()},
    )


def _relative_path(path: Path, folder: Path) -> str:
    try:
        return relative_posix(path.resolve(), folder.resolve())
    except ValueError:  # Another drive on Windows.
        return path.resolve().as_posix()
