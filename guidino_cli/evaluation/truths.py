"""The true masks of an evaluation: from a folder, a file, a split of prepared data, or a table of pairs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from guidino_cli.data.manifest import MANIFEST_NAME, load_manifest, require_cases
from guidino_cli.data.readers import READERS, is_readable
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.evaluation.cases import Pair, Pairing, Truth, TruthSet
from guidino_cli.evaluation.names import file_stem, find_duplicates, is_mask_folder, list_first
from guidino_cli.progress import pluralize
from guidino_cli.tables import read_csv
from guidino_cli.types import Case


def read_pairs(table: Path) -> Pairing:
    """Pairs from a CSV with the columns prediction and truth, and perhaps case; paths are relative to the CSV.

    An empty prediction is a missing one. Further columns are fields for strata and groups.

    Raises:
        DataError: No such file, no such columns, no rows, or a case that comes twice.
    """
    _, rows = read_csv(table)
    if not rows or not {"prediction", "truth"} <= set(rows[0]):
        raise DataError(f"{table}: expected a header with the columns prediction,truth and one row a case")
    pairs = [_pair_of(row, table.parent, f"{table}: row {number}") for number, row in enumerate(rows, start=2)]
    twice = find_duplicates([pair.truth.case for pair in pairs])
    if twice:
        raise DataError(f"{table}: {list_first(twice)} come twice")
    return Pairing(pairs, [], f"the table {table.name}", [])


def align_pairings(pairings: Sequence[Pairing], tables: Sequence[Path]) -> list[Pairing]:
    """Pairings of the same cases, all in the order of the first.

    Args:
        pairings: From `read_pairs`.
        tables: Where they were read, for messages.

    Raises:
        DataError: A table has other cases than the first one, or another truth for one of them.
    """
    first = pairings[0]
    result = [first]
    for pairing, table in zip(pairings[1:], tables[1:], strict=True):
        known = {pair.truth.case: pair for pair in pairing.pairs}
        odd = sorted(known.keys() ^ {pair.truth.case for pair in first.pairs})
        if odd:
            raise DataError(
                f"{table}: has other cases than {tables[0]} ({list_first(odd)}); give every table the same cases"
            )
        for pair in first.pairs:
            other = known[pair.truth.case].truth.path
            if other.resolve() != pair.truth.path.resolve():
                raise DataError(f"{table}: the truth of {pair.truth.case} is {other}, in {tables[0]} {pair.truth.path}")
        pairs = [replace(pair, prediction=known[pair.truth.case].prediction) for pair in first.pairs]
        result.append(replace(pairing, pairs=pairs))
    return result


def _pair_of(row: dict[str, str], folder: Path, where: str) -> Pair:
    if not row["truth"]:
        raise DataError(f"{where}: no truth")
    truth = folder / row["truth"]
    fields = {key: value for key, value in row.items() if key not in {"prediction", "truth", "case"} and key}
    case = row.get("case") or file_stem(truth)
    return Pair(Truth(case, truth, (case,), None, fields), folder / row["prediction"] if row["prediction"] else None)


_SHOWN = 5


def find_truths(place: Path, *, split: str) -> TruthSet:
    """The masks of a folder, of one file, or of a split of a prepared data folder.

    Args:
        place: Folder of masks, a mask, a prepared folder, or its `cases.json`.
        split: Split of the prepared folder ("train", "val", "test" or "all"); a plain folder has none.

    Raises:
        DataError: Nothing to be found there, or an unlabelled split.
    """
    if place.name == MANIFEST_NAME or (place / MANIFEST_NAME).is_file():
        return _from_manifest(place, split)
    truths = [Truth(file_stem(path), path, (file_stem(path),)) for path in find_masks(place)]
    twice = find_duplicates([truth.case for truth in truths])
    if twice:
        raise DataError(f"{place}: two masks for {list_first(twice)}; keep one of them")
    return TruthSet(truths, None, f"{pluralize(len(truths), 'mask')} of {place}")


def find_masks(place: Path) -> list[Path]:
    """Mask files directly in a folder, sorted, or the file itself.

    Raises:
        DataError: Nothing there, or no mask in it.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder")
    found = sorted(path for path in place.iterdir() if path.is_file() and is_readable(path))
    if not found:
        raise DataError(f"{place}: holds no masks {_below(place)}")
    return found


def _below(place: Path) -> str:
    """Where the masks may be that a folder does not hold itself."""
    folders = sorted(path for path in place.iterdir() if path.is_dir())
    full = [path for path in folders if any(is_readable(file) for file in path.iterdir())]
    if not full:
        return f"(looked for {', '.join(sorted(READERS))})"
    likely = next((path for path in full if is_mask_folder(path)), full[0])
    names = ", ".join(f"{path.name}/" for path in full[:_SHOWN])
    return f"itself; below it are {names}: did you mean {likely}?"


def _from_manifest(place: Path, split: str) -> TruthSet:
    manifest = load_manifest(place)
    if split not in {"train", "val", "test", "all"}:
        raise ConfigError(f"--split {split}: expected train, val, test or all")
    cases = manifest.cases if split == "all" else manifest.select(split)
    truths = [_truth_of(case, case.mask) for case in require_cases(cases, split, place) if case.mask is not None]
    if not truths:
        raise DataError(f"{place}: no case of the {split} split has a mask")
    return TruthSet(truths, manifest.classes, f"{split} split of {place} ({pluralize(len(truths), 'case')})")


def _truth_of(case: Case, mask: Path) -> Truth:
    names = tuple(dict.fromkeys((case.id, file_stem(case.image), file_stem(mask))))
    fields = case.fields | {"split": case.split, "group": case.group}
    if case.fold is not None:
        fields["fold"] = str(case.fold)
    return Truth(case.id, mask, names, case.image, fields)
