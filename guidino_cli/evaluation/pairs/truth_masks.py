"""The masks to be found: those of a folder, of one file, or of a split of prepared data."""

from pathlib import Path

from guidino_cli.data.images import IMAGE_SUFFIXES
from guidino_cli.data.manifest import FILE_NAME, load_manifest, require
from guidino_cli.data.volumes import VOLUME_SUFFIXES, is_volume
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.evaluation.pairs.cases import Truth, TruthSet
from guidino_cli.evaluation.pairs.names import is_mask_folder, repeated, some, stem
from guidino_cli.progress import counted
from guidino_cli.types import Case

_MASK_SUFFIXES = {*IMAGE_SUFFIXES, ".npy", ".npz", *VOLUME_SUFFIXES}
_SHOWN = 5


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
    twice = repeated([truth.case for truth in truths])
    if twice:
        raise DataError(f"{place}: two masks for {some(twice)}; keep one of them")
    return TruthSet(truths, None, f"{counted(len(truths), 'mask')} of {place}")


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
