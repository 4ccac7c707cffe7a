"""True masks of an evaluation: from a folder, a file, a split of prepared data, or a table of pairs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from guidino_cli.data.file_records import require_unchanged_files
from guidino_cli.data.manifest import is_prepared, load_manifest, require_cases
from guidino_cli.data.readers import READERS, is_readable
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.evaluation.cases import Pair, Pairing, Truth, TruthSet
from guidino_cli.evaluation.names import file_stem, find_duplicates, is_mask_folder
from guidino_cli.files import is_dead_link
from guidino_cli.progress import join_first, pluralize
from guidino_cli.tables import path_of_cell, read_csv
from guidino_cli.types import Case


def read_pairs(table: Path) -> Pairing:
    """Read pairs from a CSV with the columns prediction, truth and optionally case; paths are relative to the CSV.

    An empty prediction counts as missing. Other columns become fields for strata and groups.

    Raises:
        DataError: The file is unreadable, lacks columns or rows, or lists a case twice.
    """
    _, rows = read_csv(table)
    if not rows or not {"prediction", "truth"} <= set(rows[0]):
        raise DataError(f"{table}: expected a header with the columns prediction,truth and one row per case")
    pairs = [_parse_pair(row, table.parent, f"{table}: row {number}") for number, row in enumerate(rows, start=2)]
    duplicates = find_duplicates([pair.truth.case for pair in pairs])
    if duplicates:
        raise DataError(f"{table}: {join_first(duplicates)} come twice")
    return Pairing(pairs, [], f"the table {table.name}", [])


def align_pairings(pairings: Sequence[Pairing], tables: Sequence[Path]) -> list[Pairing]:
    """Bring pairings of the same cases into the order of the first one.

    Args:
        pairings: From `read_pairs`.
        tables: Their files, for error messages.

    Raises:
        DataError: A table lists other cases than the first one, or another truth of a case.
    """
    first = pairings[0]
    result = [first]
    for pairing, table in zip(pairings[1:], tables[1:], strict=True):
        by_case = {pair.truth.case: pair for pair in pairing.pairs}
        differing = sorted(by_case.keys() ^ {pair.truth.case for pair in first.pairs})
        if differing:
            raise DataError(
                f"{table}: has other cases than {tables[0]} ({join_first(differing)}); give every table the same cases"
            )
        for pair in first.pairs:
            other = by_case[pair.truth.case].truth.path
            if other.resolve() != pair.truth.path.resolve():
                raise DataError(f"{table}: the truth of {pair.truth.case} is {other}, in {tables[0]} {pair.truth.path}")
        pairs = [replace(pair, prediction=by_case[pair.truth.case].prediction) for pair in first.pairs]
        result.append(replace(pairing, pairs=pairs))
    return result


def _parse_pair(row: dict[str, str], folder: Path, where: str) -> Pair:
    if not row["truth"]:
        raise DataError(f"{where}: no truth")
    truth = path_of_cell(folder, row["truth"])
    fields = {key: value for key, value in row.items() if key not in {"prediction", "truth", "case"} and key}
    case = row.get("case") or file_stem(truth)
    return Pair(
        Truth(case, truth, (case,), None, fields),
        path_of_cell(folder, row["prediction"]) if row["prediction"] else None,
    )


_MAX_LISTED = 5


def find_truths(source: Path, *, split: str) -> TruthSet:
    """Find the masks of a folder, of one file, or of a split of a prepared data folder.

    Args:
        source: Folder of masks, a mask, a prepared folder, or its `cases.json`.
        split: Split of a prepared folder ("train", "val", "test" or "all"); ignored for a plain folder.

    Raises:
        DataError: There are no masks, or the split is unlabelled.
    """
    if is_prepared(source):
        return _from_manifest(source, split)
    truths = [Truth(file_stem(path), path, (file_stem(path),)) for path in find_masks(source)]
    duplicates = find_duplicates([truth.case for truth in truths])
    if duplicates:
        raise DataError(f"{source}: two masks for {join_first(duplicates)}; keep one of them")
    return TruthSet(truths, None, f"{pluralize(len(truths), 'mask')} of {source}")


def find_masks(source: Path) -> list[Path]:
    """Mask files directly in a folder, sorted, or the file itself.

    Raises:
        DataError: There is no such file or folder, or it holds no masks.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder")
    found = sorted(path for path in source.iterdir() if is_readable(path) and (path.is_file() or is_dead_link(path)))
    if not found:
        raise DataError(f"{source}: holds no masks {_describe_subfolders(source)}")
    return found


def _describe_subfolders(source: Path) -> str:
    """Subfolders that hold masks, and the most likely one."""
    folders = sorted(path for path in source.iterdir() if path.is_dir())
    with_masks = [path for path in folders if any(is_readable(file) for file in path.iterdir())]
    if not with_masks:
        return f"(looked for {', '.join(sorted(READERS))})"
    suggested = next((path for path in with_masks if is_mask_folder(path)), with_masks[0])
    names = ", ".join(f"{path.name}/" for path in with_masks[:_MAX_LISTED])
    return f"itself; below it are {names}: did you mean {suggested}?"


def _from_manifest(source: Path, split: str) -> TruthSet:
    manifest = load_manifest(source, takes_instances=True)
    if split not in {"train", "val", "test", "all"}:
        raise ConfigError(f"--split {split}: expected train, val, test or all")
    cases = manifest.cases if split == "all" else manifest.select(split)
    require_unchanged_files(cases, source, images=False)
    truths = [_make_truth(case, case.mask) for case in require_cases(cases, split, source) if case.mask is not None]
    if not truths:
        raise DataError(f"{source}: no case of the {split} split has a mask")
    scored = {truth.case for truth in truths}
    others = [_make_truth(case, case.mask) for case in manifest.cases if case.mask is not None]
    names = {name for truth in others if truth.case not in scored for name in truth.names}
    part = "all splits" if split == "all" else f"{split} split"
    origin = f"{part} of {source} ({pluralize(len(truths), 'case')})"
    every_name = frozenset({*names, *(name.lower() for name in names)})
    if manifest.has_instances:
        return TruthSet(truths, None, origin, every_name, has_instances=True)
    return TruthSet(truths, manifest.classes, origin, every_name, manifest.ignore_label)


def _make_truth(case: Case, mask: Path) -> Truth:
    names = tuple(dict.fromkeys((case.id, file_stem(case.image), file_stem(mask))))
    fields = case.fields | {"split": case.split, "group": case.group}
    if case.fold is not None:
        fields["fold"] = str(case.fold)
    series = None if case.volume is None else case.volume.sources[0].series
    return Truth(case.id, mask, names, case.image, fields, series)
