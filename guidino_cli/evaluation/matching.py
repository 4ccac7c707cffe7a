"""Matching of predictions with truths by name, one to one, never by sort order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from guidino_cli.data.images import find_images
from guidino_cli.data.manifest import MANIFEST_NAME
from guidino_cli.data.volumes.reading import is_volume_file
from guidino_cli.errors import DataError
from guidino_cli.evaluation.cases import Pair, Pairing, Truth, TruthSet
from guidino_cli.evaluation.names import file_stem, find_swapped_arguments, strip_suffixes
from guidino_cli.evaluation.truths import find_masks
from guidino_cli.progress import join_first, pluralize

_Key = TypeVar("_Key")
_MAX_SUFFIXES = 3
_FIRST_CHANNEL = "_0000"


def match_predictions(predictions: Path, truths: TruthSet) -> Pairing:
    """Find the prediction of every truth by name.

    Exact names are matched first; for the rest, common suffixes are removed on both sides and letter case is ignored.
    Truths without a prediction stay in the list and count as missing.

    Raises:
        DataError: No name matches, or more than one prediction matches one truth.
    """
    if predictions.is_dir() and (predictions / MANIFEST_NAME).is_file():
        raise DataError(f"{predictions}: is prepared data; the order is `guidino evaluate PREDS TRUTH`")
    files = find_masks(predictions)
    if predictions.is_file() and len(truths.truths) == 1:
        return Pairing([Pair(truths.truths[0], predictions)], [], "two files were given", [])
    name_index = _choose_name_index(files, truths.truths)
    assigned, rules = _assign(files, truths.truths, name_index)
    if not assigned:
        raise DataError(_no_match_message(predictions, files, truths))
    pairs = [Pair(truth, assigned.get(index)) for index, truth in enumerate(truths.truths)]
    used = set(assigned.values())
    unused = [path for path in files if path not in used]
    others = [path for path in unused if truths.other_splits & {file_stem(path), *strip_suffixes(file_stem(path))}]
    extra = [path for path in unused if path not in others]
    return Pairing(pairs, extra, " or ".join(rules), _warnings(predictions, files, truths), other_splits=others)


def attach_images(pairing: Pairing, images: Path) -> Pairing:
    """Add the image of every case, found by name; of volumes in nnU-Net's files of channels, the first channel.

    A folder with the name of a case is taken for its DICOM series.

    Raises:
        DataError: There is no such folder, or no image matches a case.
    """
    if not images.is_dir():
        raise DataError(f"{images}: no such folder")
    volumes = sorted(path for path in images.iterdir() if is_volume_file(path))
    stems = {file_stem(path).removesuffix(_FIRST_CHANNEL): path for path in volumes}
    stems |= {path.name: path for path in sorted(images.iterdir()) if path.is_dir()}
    stems |= {file_stem(path): path for path in [*find_images(images), *volumes]}
    known = {name: path for stem, path in stems.items() for name in (stem, stem.lower())}
    pairs = []
    for pair in pairing.pairs:
        names = [name for case in pair.truth.names for name in (case, *strip_suffixes(case))]
        image = next((known[name] for name in names if name in known), pair.truth.image)
        pairs.append(replace(pair, truth=replace(pair.truth, image=image)))
    if all(pair.truth.image is None for pair in pairs):
        raise DataError(f"{images}: no image has the name of a case, such as {pairs[0].truth.case}")
    return replace(pairing, pairs=pairs)


def _choose_name_index(files: Sequence[Path], truths: Sequence[Truth]) -> int:
    """Index of the truths' names that the predictions use: the one that matches most files."""
    known = {name for path in files for name in strip_suffixes(file_stem(path))}
    most = max(len(truth.names) for truth in truths)
    hits = [sum(_name(truth, name_index).lower() in known for truth in truths) for name_index in range(most)]
    return hits.index(max(hits))


def _name(truth: Truth, name_index: int) -> str:
    return truth.names[min(name_index, len(truth.names) - 1)]


def _assign(files: Sequence[Path], truths: Sequence[Truth], name_index: int) -> tuple[dict[int, Path], list[str]]:
    """Match exact names first, then with more and more suffixes removed.

    Suffixes are removed one at a time, because `scan_0000` may be the name of a slice: `scan_0000_pred` must match it.

    Returns:
        Predictions by index of the truth, and the rules that were applied.
    """
    prediction_names = {path: [file_stem(path), *strip_suffixes(file_stem(path))] for path in files}
    chosen = [_name(truth, name_index) for truth in truths]
    truth_names = {index: [name, *strip_suffixes(name)] for index, name in enumerate(chosen)}
    assigned = _assign_equal(_at_level(prediction_names, 0), _at_level(truth_names, 0), assigned={})
    rules = ["same name"] if assigned else []
    for removed in range(2 * _MAX_SUFFIXES + 1):
        for from_prediction in range(min(removed, _MAX_SUFFIXES) + 1):
            if len(assigned) == min(len(files), len(truths)):
                break
            names = _at_level(prediction_names, from_prediction + 1)
            new = _assign_equal(names, _at_level(truth_names, removed - from_prediction + 1), assigned=assigned)
            if new:
                rules.append(_describe_rule(names, new))
                assigned |= new
    return assigned, list(dict.fromkeys(rules))


def _at_level(names: Mapping[_Key, list[str]], level: int) -> dict[_Key, str]:
    """Names from which this many suffixes were removed."""
    return {key: steps[level] for key, steps in names.items() if len(steps) > level}


def _describe_rule(names: dict[Path, str], new: dict[int, Path]) -> str:
    path = next(iter(new.values()))
    suffix = file_stem(path)[len(names[path]) :]
    return f"same name without {suffix}" if suffix else "same name but for letter case and suffixes of the truth"


def _assign_equal(
    prediction_names: dict[Path, str], truth_names: dict[int, str], *, assigned: dict[int, Path]
) -> dict[int, Path]:
    """Pair unassigned files and truths of equal names."""
    used = set(assigned.values())
    files: dict[str, list[Path]] = {}
    for path, name in prediction_names.items():
        if path not in used:
            files.setdefault(name, []).append(path)
    wanted: dict[str, list[int]] = {}
    for index, name in truth_names.items():
        if index not in assigned and name in files:
            wanted.setdefault(name, []).append(index)
    for name, indices in wanted.items():
        if len(files[name]) > 1 or len(indices) > 1:
            raise DataError(
                f"{join_first([path.name for path in files[name]])} and the truth '{name}' do not fit one to one "
                f"({pluralize(len(files[name]), 'prediction')}, {pluralize(len(indices), 'truth')}); "
                "rename them or give --pairs TABLE.csv"
            )
    return {indices[0]: files[name][0] for name, indices in wanted.items()}


def _no_match_message(source: Path, files: Sequence[Path], truths: TruthSet) -> str:
    found, expected = join_first([path.name for path in files]), join_first([truth.case for truth in truths.truths])
    return (
        f"{source}: no name fits the truth; found {found}, expected {expected}; rename them or give --pairs TABLE.csv"
    )


def _warnings(source: Path, files: Sequence[Path], truths: TruthSet) -> list[str]:
    if truths.classes is not None:
        return []  # Prepared data holds true masks for certain.
    sign = find_swapped_arguments(source, files, [truth.path for truth in truths.truths])
    return [f"{sign}: are the arguments swapped? The order is PREDS TRUTH"] if sign else []
