"""Which prediction belongs to which truth: by name, one to one, the rule said aloud, never by sort order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from guidino_cli.data.images import find_images
from guidino_cli.data.manifest import MANIFEST_NAME
from guidino_cli.errors import DataError
from guidino_cli.evaluation.cases import Pair, Pairing, Truth, TruthSet
from guidino_cli.evaluation.names import file_stem, find_swapped_arguments, list_first, strip_suffixes
from guidino_cli.evaluation.truths import find_masks
from guidino_cli.progress import pluralize

_Key = TypeVar("_Key")
_MOST_ENDINGS = 3


def match_predictions(predictions: Path, truths: TruthSet) -> Pairing:
    """Find the prediction of every truth by name.

    A prediction with exactly the name of the case comes first; for what remains, the usual endings are removed on both
    sides and letter case is ignored. Truths without a prediction stay in the list: they are failures, not absences.

    Raises:
        DataError: No name fits, or more than one prediction fits one truth.
    """
    if predictions.is_dir() and (predictions / MANIFEST_NAME).is_file():
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


def attach_images(pairing: Pairing, images: Path) -> Pairing:
    """The same pairs with the image of every case, found by the name of the case.

    Raises:
        DataError: No folder, or no image fits any case.
    """
    if not images.is_dir():
        raise DataError(f"{images}: no such folder")
    known = {name: path for path in find_images(images) for name in (file_stem(path), file_stem(path).lower())}
    pairs = []
    for pair in pairing.pairs:
        names = [name for case in pair.truth.names for name in (case, *strip_suffixes(case))]
        image = next((known[name] for name in names if name in known), pair.truth.image)
        pairs.append(replace(pair, truth=replace(pair.truth, image=image)))
    if all(pair.truth.image is None for pair in pairs):
        raise DataError(f"{images}: no image has the name of a case, such as {pairs[0].truth.case}")
    return replace(pairing, pairs=pairs)


def _best_name(files: Sequence[Path], truths: Sequence[Truth]) -> int:
    """Which of a truth's names the predictions use: the one that fits most files."""
    known = {name for path in files for name in strip_suffixes(file_stem(path))}
    most = max(len(truth.names) for truth in truths)
    hits = [sum(_name(truth, position).lower() in known for truth in truths) for position in range(most)]
    return hits.index(max(hits))


def _name(truth: Truth, position: int) -> str:
    return truth.names[min(position, len(truth.names) - 1)]


def _assign(files: Sequence[Path], truths: Sequence[Truth], position: int) -> tuple[dict[int, Path], list[str]]:
    """Names as they are first, then with ever more endings removed; index of the truth -> prediction, and the rules.

    Endings go one at a time, because `scan_0000` may be the name of a slice: `scan_0000_pred` must find it.
    """
    ours = {path: [file_stem(path), *strip_suffixes(file_stem(path))] for path in files}
    theirs = {
        index: [_name(truth, position), *strip_suffixes(_name(truth, position))] for index, truth in enumerate(truths)
    }
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
    ending = file_stem(path)[len(ours[path]) :]
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
                f"{list_first([path.name for path in files[name]])} and the truth '{name}' do not fit one to one "
                f"({pluralize(len(files[name]), 'prediction')}, {pluralize(len(indices), 'truth')}); "
                "rename them or give --pairs TABLE.csv"
            )
    return {indices[0]: files[name][0] for name, indices in wanted.items()}


def _nothing_fits(place: Path, files: Sequence[Path], truths: TruthSet) -> str:
    ours, theirs = list_first([path.name for path in files]), list_first([truth.case for truth in truths.truths])
    return f"{place}: no name fits the truth; found {ours}, expected {theirs}; rename them or give --pairs TABLE.csv"


def _warnings(place: Path, files: Sequence[Path], truths: TruthSet) -> list[str]:
    if truths.classes is not None:
        return []  # Prepared data is truth for certain.
    sign = find_swapped_arguments(place, files, [truth.path for truth in truths.truths])
    return [f"{sign}: are the arguments swapped? The order is PREDS TRUTH"] if sign else []
