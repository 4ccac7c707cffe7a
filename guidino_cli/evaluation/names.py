"""What the names of mask files say: the case they belong to, and whether somebody predicted it or drew it."""

from collections.abc import Sequence
from pathlib import Path

from guidino_cli.data.manifest import MANIFEST_NAME
from guidino_cli.data.volumes import VOLUME_SUFFIXES

COMMON_SUFFIXES = (
    "_segmentation",
    "_prediction",
    "_manual1",
    "_labels",
    "_label",
    "_masks",
    "_mask",
    "_pred",
    "_anno",
    "_0000",
    "_seg",
    "_gt",
)
"""Endings of a stem that do not belong to the name of the case, in any letter case."""

_PREDICTED = ("_pred", "_prediction", "_predicted")
_DRAWN = ("_gt", "_groundtruth", "_manual1", "_anno", "_segmentation")
_PREDICTED_FOLDER = ("pred", "preds", "prediction", "predictions", "predicted", "inference", "output", "outputs")
_DRAWN_FOLDER = (
    "gt",
    "gts",
    "truth",
    "groundtruth",
    "ground_truth",
    "label",
    "labels",
    "labelstr",
    "labelsts",
    "masks",
)
_OF_PREDICT = "predictions.json"
_SHOWN = 5


def file_stem(path: Path) -> str:
    """File name without its ending; `.nii.gz` is one ending."""
    name = path.name
    for ending in VOLUME_SUFFIXES:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return path.stem


def strip_suffixes(name: str) -> list[str]:
    """A stem in lower case, then without its usual endings (`SUFFIXES`), removed one by one.

    `ISIC_12_seg_pred` gives `isic_12_seg_pred`, `isic_12_seg`, `isic_12`.
    """
    names = [name.lower()]
    while True:
        ending = next(
            (suffix for suffix in COMMON_SUFFIXES if names[-1].endswith(suffix) and names[-1] != suffix), None
        )
        if ending is None:
            return names
        names.append(names[-1].removesuffix(ending))


def find_swapped_arguments(place: Path, predictions: Sequence[Path], truths: Sequence[Path]) -> str:
    """Why PREDS and TRUTH look exchanged, "" if they do not.

    Only what speaks on one side and not on the other counts, because people name files as they like.

    Args:
        place: The folder given as PREDS.
        predictions: The masks in it.
        truths: The masks given as TRUTH, at least one.
    """
    other = truths[0].parent
    if (other / _OF_PREDICT).is_file() and not (place / _OF_PREDICT).is_file():
        return f"TRUTH holds the {_OF_PREDICT} of `guidino predict`"
    if place.name == "masks" and (place.parent / MANIFEST_NAME).is_file():
        return "PREDS are the masks of prepared data"
    if _share(truths, _PREDICTED) > 0.5 and not _share(predictions, _PREDICTED):
        return f"the masks of TRUTH are named as predictions ({truths[0].name})"
    if _share(predictions, _DRAWN) > 0.5 and not _share(truths, _DRAWN):
        return f"the masks of PREDS are named as truth ({predictions[0].name})"
    if place.name.lower() in _DRAWN_FOLDER and other.name.lower() in _PREDICTED_FOLDER:
        return f"PREDS is the folder {place.name}, TRUTH the folder {other.name}"
    return ""


def is_mask_folder(folder: Path) -> bool:
    """Whether a folder is named as those of masks are."""
    return folder.name.lower() in {*_DRAWN_FOLDER, *_PREDICTED_FOLDER}


def find_duplicates(names: Sequence[str]) -> list[str]:
    """Names that occur more than once, sorted."""
    seen: set[str] = set()
    return sorted({name for name in names if name in seen or seen.add(name)})  # type: ignore[func-returns-value]


def list_first(names: Sequence[str]) -> str:
    """Up to five names in words."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _share(paths: Sequence[Path], endings: tuple[str, ...]) -> float:
    return sum(file_stem(path).lower().endswith(endings) for path in paths) / len(paths)
