"""Which prediction belongs to which truth: by name, one to one, the rule said aloud, never by sort order."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from guidino_cli.data.images import IMAGE_SUFFIXES, find_images
from guidino_cli.data.manifest import FILE_NAME, load_manifest, require
from guidino_cli.data.volumes import VOLUME_SUFFIXES, is_volume
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.evaluation.names import is_mask_folder, shortened, sign_of_swap, stem
from guidino_cli.progress import counted
from guidino_cli.types import Case

_Key = TypeVar("_Key")
_MOST_ENDINGS = 3
_SHOWN = 5


@dataclass(frozen=True)
class Truth:
    """One mask to be found.

    Attributes:
        case: Name of the case in every report.
        path: Its mask.
        names: Stems a prediction may carry, the likeliest first.
        image: The image itself, where known.
        fields: What is known about the case (split, fold, group, ... of the manifest), for strata and groups.
    """

    case: str
    path: Path
    names: tuple[str, ...]
    image: Path | None = None
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """A truth and its prediction, or None if there is no file for it."""

    truth: Truth
    prediction: Path | None


@dataclass(frozen=True)
class TruthSet:
    """The list of masks to be found.

    Attributes:
        truths: One per case.
        classes: Class names from the manifest, index = value; None if the truth is a plain folder.
        origin: One phrase for reports: where the list came from.
    """

    truths: list[Truth]
    classes: list[str] | None
    origin: str


@dataclass(frozen=True)
class Pairing:
    """The outcome of the matching.

    Attributes:
        pairs: One per truth, in its order.
        extra: Prediction files that belong to no truth.
        rule: One phrase: how names were compared.
        warnings: What looks odd, one line each.
    """

    pairs: list[Pair]
    extra: list[Path]
    rule: str
    warnings: list[str]


def find_masks(place: Path) -> list[Path]:
    """Mask files directly in a folder, sorted, or the file itself.

    Raises:
        DataError: Nothing there, or no mask in it.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder")
    found = sorted(path for path in place.iterdir() if path.is_file() and _is_mask(path))
    if not found:
        raise DataError(f"{place}: holds no masks {_below(place)}")
    return found


def _below(place: Path) -> str:
    """Where the masks may be that a folder does not hold itself."""
    folders = sorted(path for path in place.iterdir() if path.is_dir())
    full = [path for path in folders if any(_is_mask(file) for file in path.iterdir())]
    if not full:
        return f"(looked for {', '.join(sorted(_MASK_SUFFIXES))})"
    likely = next((path for path in full if is_mask_folder(path)), full[0])
    names = ", ".join(f"{path.name}/" for path in full[:_SHOWN])
    return f"itself; below it are {names}: did you mean {likely}?"


def find_truths(place: Path, *, split: str) -> TruthSet:
    """The masks of a folder, of one file, or of a split of a prepared data folder.

    Args:
        place: Folder of masks, a mask, a prepared folder, or its `cases.json`.
        split: Split of the prepared folder ("train", "val", "test" or "all"); a plain folder has none.

    Raises:
        DataError: Nothing to be found there, or an unlabelled split.
    """
    if place.name == FILE_NAME or (place / FILE_NAME).is_file():
        return _from_manifest(place, split)
    truths = [Truth(stem(path), path, (stem(path),)) for path in find_masks(place)]
    repeated = _repeated([truth.case for truth in truths])
    if repeated:
        raise DataError(f"{place}: two masks for {_some(repeated)}; keep one of them")
    return TruthSet(truths, None, f"{counted(len(truths), 'mask')} of {place}")


def match(predictions: Path, truths: TruthSet) -> Pairing:
    """Find the prediction of every truth by name.

    A prediction with exactly the name of the case comes first; for what remains, the usual endings are removed on both
    sides and letter case is ignored. Truths without a prediction stay in the list: they are failures, not absences.

    Raises:
        DataError: No name fits, or more than one prediction fits one truth.
    """
    if predictions.is_dir() and (predictions / FILE_NAME).is_file():
        raise DataError(f"{predictions}: is prepared data; the order is `guidino evaluate PREDS TRUTH`")
    files = find_masks(predictions)
    if predictions.is_file() and len(truths.truths) == 1:
        return Pairing([Pair(truths.truths[0], predictions)], [], "two files were given", [])
    position = _best_name(files, truths.truths)
    found, rules = _assign(files, truths.truths, position)
    if not found:
        raise DataError(_nothing_fits(predictions, files, truths))
    pairs = [Pair(truth, found.get(index)) for index, truth in enumerate(truths.truths)]
    taken = set(found.values())
    extra = [path for path in files if path not in taken]
    return Pairing(pairs, extra, " or ".join(rules), _warnings(predictions, files, truths))


def read_pairs(table: Path) -> Pairing:
    """Pairs from a CSV with the columns prediction and truth, and perhaps case; paths are relative to the CSV.

    An empty prediction is a missing one. Further columns are fields for strata and groups.

    Raises:
        DataError: No such file, no such columns, no rows, or a case that comes twice.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: not a UTF-8 CSV ({error})") from error
    if not rows or not {"prediction", "truth"} <= set(rows[0]):
        raise DataError(f"{table}: expected a header with the columns prediction,truth and one row a case")
    pairs = [_pair_of(row, table.parent, f"{table}: row {number}") for number, row in enumerate(rows, start=2)]
    repeated = _repeated([pair.truth.case for pair in pairs])
    if repeated:
        raise DataError(f"{table}: {_some(repeated)} come twice")
    return Pairing(pairs, [], f"the table {table.name}", [])


def in_one_order(pairings: Sequence[Pairing], tables: Sequence[Path]) -> list[Pairing]:
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
                f"{table}: has other cases than {tables[0]} ({_some(odd)}); give every table the same cases"
            )
        for pair in first.pairs:
            other = known[pair.truth.case].truth.path
            if other.resolve() != pair.truth.path.resolve():
                raise DataError(f"{table}: the truth of {pair.truth.case} is {other}, in {tables[0]} {pair.truth.path}")
        pairs = [replace(pair, prediction=known[pair.truth.case].prediction) for pair in first.pairs]
        result.append(replace(pairing, pairs=pairs))
    return result


def with_images(pairing: Pairing, images: Path) -> Pairing:
    """The same pairs with the image of every case, found by the name of the case.

    Raises:
        DataError: No folder, or no image fits any case.
    """
    if not images.is_dir():
        raise DataError(f"{images}: no such folder")
    known = {name: path for path in find_images(images) for name in (stem(path), stem(path).lower())}
    pairs = []
    for pair in pairing.pairs:
        names = [name for case in pair.truth.names for name in (case, *shortened(case))]
        image = next((known[name] for name in names if name in known), pair.truth.image)
        pairs.append(replace(pair, truth=replace(pair.truth, image=image)))
    if all(pair.truth.image is None for pair in pairs):
        raise DataError(f"{images}: no image has the name of a case, such as {pairs[0].truth.case}")
    return replace(pairing, pairs=pairs)


_MASK_SUFFIXES = {*IMAGE_SUFFIXES, ".npy", ".npz", *VOLUME_SUFFIXES}


def _is_mask(path: Path) -> bool:
    return not path.name.startswith(".") and (path.suffix.lower() in _MASK_SUFFIXES or is_volume(path))


def _from_manifest(place: Path, split: str) -> TruthSet:
    manifest = load_manifest(place)
    if split not in {"train", "val", "test", "all"}:
        raise ConfigError(f"--split {split}: expected train, val, test or all")
    cases = manifest.cases if split == "all" else manifest.select(split)
    truths = [_truth_of(case, case.mask) for case in require(cases, split, place) if case.mask is not None]
    if not truths:
        raise DataError(f"{place}: no case of the {split} split has a mask")
    return TruthSet(truths, manifest.classes, f"{split} split of {place} ({counted(len(truths), 'case')})")


def _truth_of(case: Case, mask: Path) -> Truth:
    names = tuple(dict.fromkeys((case.id, stem(case.image), stem(mask))))
    fields = case.fields | {"split": case.split, "group": case.group}
    if case.fold is not None:
        fields["fold"] = str(case.fold)
    return Truth(case.id, mask, names, case.image, fields)


def _pair_of(row: dict[str, str], folder: Path, where: str) -> Pair:
    if not row["truth"]:
        raise DataError(f"{where}: no truth")
    truth = folder / row["truth"]
    fields = {key: value for key, value in row.items() if key not in {"prediction", "truth", "case"} and key}
    case = row.get("case") or stem(truth)
    return Pair(Truth(case, truth, (case,), None, fields), folder / row["prediction"] if row["prediction"] else None)


def _best_name(files: Sequence[Path], truths: Sequence[Truth]) -> int:
    """Which of a truth's names the predictions use: the one that fits most files."""
    known = {name for path in files for name in shortened(stem(path))}
    most = max(len(truth.names) for truth in truths)
    hits = [sum(_name(truth, position).lower() in known for truth in truths) for position in range(most)]
    return hits.index(max(hits))


def _name(truth: Truth, position: int) -> str:
    return truth.names[min(position, len(truth.names) - 1)]


def _assign(files: Sequence[Path], truths: Sequence[Truth], position: int) -> tuple[dict[int, Path], list[str]]:
    """Names as they are first, then with ever more endings removed; index of the truth -> prediction, and the rules.

    Endings go one at a time, because `scan_0000` may be the name of a slice: `scan_0000_pred` must find it.
    """
    ours = {path: [stem(path), *shortened(stem(path))] for path in files}
    theirs = {index: [_name(truth, position), *shortened(_name(truth, position))] for index, truth in enumerate(truths)}
    found = _assign_by(_step(ours, 0), _step(theirs, 0), found={})
    rules = ["same name"] if found else []
    for removed in range(2 * _MOST_ENDINGS + 1):
        for here in range(min(removed, _MOST_ENDINGS) + 1):
            if len(found) == min(len(files), len(truths)):
                break
            names = _step(ours, here + 1)
            new = _assign_by(names, _step(theirs, removed - here + 1), found=found)
            if new:
                rules.append(_rule(names, new))
                found |= new
    return found, list(dict.fromkeys(rules))


def _step(names: Mapping[_Key, list[str]], place: int) -> dict[_Key, str]:
    """The names that have been shortened so often."""
    return {key: steps[place] for key, steps in names.items() if len(steps) > place}


def _rule(ours: dict[Path, str], new: dict[int, Path]) -> str:
    path = next(iter(new.values()))
    ending = stem(path)[len(ours[path]) :]
    return f"same name without {ending}" if ending else "same name but for letter case and endings of the truth"


def _assign_by(ours: dict[Path, str], theirs: dict[int, str], *, found: dict[int, Path]) -> dict[int, Path]:
    """Pairs among what is still free that have equal names."""
    taken = set(found.values())
    files: dict[str, list[Path]] = {}
    for path, name in ours.items():
        if path not in taken:
            files.setdefault(name, []).append(path)
    wanted: dict[str, list[int]] = {}
    for index, name in theirs.items():
        if index not in found and name in files:
            wanted.setdefault(name, []).append(index)
    for name, indices in wanted.items():
        if len(files[name]) > 1 or len(indices) > 1:
            raise DataError(
                f"{_some([path.name for path in files[name]])} and the truth '{name}' do not fit one to one "
                f"({counted(len(files[name]), 'prediction')}, {counted(len(indices), 'truth')}); "
                "rename them or give --pairs TABLE.csv"
            )
    return {indices[0]: files[name][0] for name, indices in wanted.items()}


def _nothing_fits(place: Path, files: Sequence[Path], truths: TruthSet) -> str:
    ours, theirs = _some([path.name for path in files]), _some([truth.case for truth in truths.truths])
    return f"{place}: no name fits the truth; found {ours}, expected {theirs}; rename them or give --pairs TABLE.csv"


def _warnings(place: Path, files: Sequence[Path], truths: TruthSet) -> list[str]:
    if truths.classes is not None:
        return []  # Prepared data is truth for certain.
    sign = sign_of_swap(place, files, [truth.path for truth in truths.truths])
    return [f"{sign}: are the arguments swapped? The order is PREDS TRUTH"] if sign else []


def _repeated(names: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    return sorted({name for name in names if name in seen or seen.add(name)})  # type: ignore[func-returns-value]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
