"""Names of mask files: case name, common suffixes, signs of predictions and of true masks."""

import re
from collections.abc import Sequence
from pathlib import Path

from guidino_cli.data.manifest import MANIFEST_NAME
from guidino_cli.files import file_stem

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
"""Suffixes of a stem that are no part of the case name, in any letter case."""

_PREDICTION_SUFFIXES = ("_pred", "_prediction", "_predicted")
_TRUTH_SUFFIXES = ("_gt", "_groundtruth", "_manual1", "_anno", "_segmentation")
_PREDICTION_FOLDERS = ("pred", "preds", "prediction", "predictions", "predicted", "inference", "output", "outputs")
_TRUTH_FOLDERS = (
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
PREDICT_SUMMARY = "predictions.json"


def strip_suffixes(name: str) -> list[str]:
    """A stem in lower case, then with its common suffixes (`COMMON_SUFFIXES`) removed one by one.

    `ISIC_12_seg_pred` gives `isic_12_seg_pred`, `isic_12_seg`, `isic_12`.
    """
    names = [name.lower()]
    while True:
        suffix = next(
            (suffix for suffix in COMMON_SUFFIXES if names[-1].endswith(suffix) and names[-1] != suffix), None
        )
        if suffix is None:
            return names
        names.append(names[-1].removesuffix(suffix))


def find_swapped_arguments(folder: Path, predictions: Sequence[Path], truths: Sequence[Path]) -> str:
    """Sign that PREDS and TRUTH are swapped, "" if there is none.

    Only signs that occur on one side alone count, because people name files as they like.

    Args:
        folder: The folder given as PREDS.
        predictions: Its masks.
        truths: The masks given as TRUTH, at least one.
    """
    truth_folder = truths[0].parent
    if (truth_folder / PREDICT_SUMMARY).is_file() and not (folder / PREDICT_SUMMARY).is_file():
        return f"TRUTH holds the {PREDICT_SUMMARY} of `guidino predict`"
    if folder.name == "masks" and (folder.parent / MANIFEST_NAME).is_file():
        return "PREDS are the masks of prepared data"
    if _suffix_share(truths, _PREDICTION_SUFFIXES) > 0.5 and not _suffix_share(predictions, _PREDICTION_SUFFIXES):
        return f"the masks of TRUTH are named as predictions ({truths[0].name})"
    if _suffix_share(predictions, _TRUTH_SUFFIXES) > 0.5 and not _suffix_share(truths, _TRUTH_SUFFIXES):
        return f"the masks of PREDS are named as truth ({predictions[0].name})"
    if folder.name.lower() in _TRUTH_FOLDERS and truth_folder.name.lower() in _PREDICTION_FOLDERS:
        return f"PREDS is the folder {folder.name}, TRUTH the folder {truth_folder.name}"
    return ""


def natural_key(name: str) -> tuple[list[int | str], str]:
    """Sort key by which `case2` comes before `case10`; letter case decides only between names that are equal else."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], name


def is_mask_folder(folder: Path) -> bool:
    """Whether a folder has a name that is common for masks."""
    return folder.name.lower() in {*_TRUTH_FOLDERS, *_PREDICTION_FOLDERS}


def find_duplicates(names: Sequence[str]) -> list[str]:
    """Names that occur more than once, sorted."""
    seen: set[str] = set()
    return sorted({name for name in names if name in seen or seen.add(name)})  # type: ignore[func-returns-value]


def _suffix_share(paths: Sequence[Path], suffixes: tuple[str, ...]) -> float:
    return sum(file_stem(path).lower().endswith(suffixes) for path in paths) / len(paths)
