"""Detect the published layouts of data sets: nnU-Net raw, TN3K, BUSI, DRIVE, ISIC, Kvasir-SEG."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from guidino_cli.data.images import find_images
from guidino_cli.data.volumes.reading import is_volume_file
from guidino_cli.errors import DataError
from guidino_cli.json_files import read_json
from guidino_cli.preparation.generic_layouts import detect_sibling_folders
from guidino_cli.preparation.matching import MatchResult, match_masks
from guidino_cli.preparation.types import DiscoveredDataset, ImageMaskPair, MatchedFolders, merge_folders

_KVASIR_NAME = re.compile(r"c[a-z0-9]{24}")
_ISIC_SPLITS = {"training": "train", "validation": "val", "test": "test"}


def detect_kvasir(source: Path) -> DiscoveredDataset | None:
    """Detect Kvasir-SEG: images/ and masks/ with the same names; the masks are JPEG."""
    dataset = detect_sibling_folders(source)
    if dataset is None or not (source / "images").is_dir() or not (source / "masks").is_dir():
        return None
    named = sum(bool(_KVASIR_NAME.fullmatch(pair.id)) for pair in dataset.pairs)
    boxes = next((name for name in ("kavsir_bboxes.json", "kvasir_bboxes.json") if (source / name).is_file()), None)
    if boxes is None and named < 0.8 * max(len(dataset.pairs), 1):
        return None
    evidence = f"{named} of {len(dataset.pairs)} names are Kvasir-SEG's" + (f", {boxes} is there" if boxes else "")
    evidence = f"images/ and masks/; {evidence}"
    return replace(dataset, layout="kvasir", evidence=evidence, class_names=("background", "polyp"))


def detect_isic(source: Path) -> DiscoveredDataset | None:
    """Detect ISIC 2016, 2017, 2018: `..._Training_Data` or `..._Input` beside `..._GroundTruth`."""
    if not source.is_dir():
        return None
    parts: dict[str, dict[str, Path]] = {}
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        name = folder.name.lower()
        stage = re.search(r"training|validation|test", name)
        kind = re.search(r"(data|input|groundtruth)$", name)
        if "isic" not in name or not stage or not kind or re.search(r"part[23]|task[23]_", name):
            continue
        side = "mask" if kind.group() == "groundtruth" else "image"
        parts.setdefault(stage.group(), {})[side] = _unnest(folder)
    whole = {stage: sides for stage, sides in parts.items() if len(sides) == 2}
    if not whole:
        return None
    matched = [
        MatchedFolders(
            match_masks(_find_isic_images(sides["image"]), find_images(sides["mask"])),
            _ISIC_SPLITS[stage],
            _ISIC_SPLITS[stage],
        )
        for stage, sides in whole.items()
    ]
    years = sorted(set(re.findall(r"20\d\d", " ".join(path.name for path in source.iterdir()))))
    evidence = f"ISIC {' '.join(years)} folders for {', '.join(whole)}; {matched[0].matches.rule}"
    notes = [
        f"{stage}: only the {next(iter(parts[stage]))}s are there, left out" for stage in parts if stage not in whole
    ]
    result = merge_folders("isic", evidence, matched, notes=notes, official="the challenge's folders")
    return replace(result, class_names=("background", "lesion"))


def detect_tn3k(source: Path) -> DiscoveredDataset | None:
    """Detect TN3K: trainval and test folders, both counted from 0000; folds are positions in sorted trainval."""
    parts = [
        MatchedFolders(match_masks(find_images(images), find_images(masks)), split, prefix)
        for prefix, split in (("trainval", "train"), ("test", "test"))
        if (images := source / f"{prefix}-image").is_dir() and (masks := source / f"{prefix}-mask").is_dir()
    ]
    if not parts:
        return None
    evidence = f"{' and '.join(part.prefix + '-image/, ' + part.prefix + '-mask/' for part in parts)}"
    dataset = merge_folders("tn3k", evidence, parts, always_prefix=True, official="the trainval and test folders")
    dataset = replace(dataset, class_names=("background", "nodule"))
    return _apply_tn3k_folds(dataset, source)


def detect_busi(source: Path) -> DiscoveredDataset | None:
    """Detect BUSI: benign/, malignant/, normal/; an image's masks are merged; the folder is the case's stratum."""
    kinds = [kind for kind in ("benign", "malignant", "normal") if _has_images(source / kind)]
    if not {"benign", "malignant"} <= set(kinds):
        return None
    parts = []
    for kind in kinds:
        files = find_images(source / kind)
        masks = [path for path in files if re.search(r"_mask(_\d+)?$", path.stem)]
        images = [path for path in files if path not in set(masks)]
        parts.append(MatchedFolders(match_masks(images, masks), prefix=kind, stratum=kind))
    merged = sum(len(masks) > 1 for part in parts for _, _, masks in part.matches.pairs)
    notes = [f"images with several masks, which are merged: {merged}"] if merged else []
    evidence = f"{'/, '.join(kinds)}/ with `x (1).png` and `x (1)_mask.png`"
    return replace(merge_folders("busi", evidence, parts, notes=notes), class_names=("background", "lesion"))


def filter_normal_cases(dataset: DiscoveredDataset, *, include: bool) -> DiscoveredDataset:
    """Keep or leave out the cases of a `normal` stratum (BUSI's healthy breasts), and note it."""
    normal = [pair for pair in dataset.pairs if pair.stratum == "normal"]
    if not normal:
        return dataset
    choice = "kept, with empty masks" if include else "left out; --normal include keeps them"
    pairs = [pair for pair in dataset.pairs if include or pair.stratum != "normal"]
    return replace(dataset, pairs=pairs, notes=[*dataset.notes, f"normal images, {len(normal)}: {choice}"])


def detect_drive(source: Path) -> DiscoveredDataset | None:
    """Detect DRIVE: training/ and test/ with images/ and 1st_manual/; mask/ is the field of view, not a label."""
    parts, notes = [], []
    for folder, split in (("training", "train"), ("test", "test")):
        images, manual = source / folder / "images", source / folder / "1st_manual"
        if images.is_dir() and manual.is_dir():
            parts.append(MatchedFolders(match_masks(find_images(images), find_images(manual)), split, split))
        elif images.is_dir():
            notes.append(f"{folder}/ has no 1st_manual/ and is left out")
        if (source / folder / "mask").is_dir():
            notes.append(f"{folder}/mask/ is the field of view, not a label, and is not used")
        if (source / folder / "2nd_manual").is_dir():
            notes.append(f"{folder}/2nd_manual/ is a second observer and is not used")
    if not parts:
        return None
    evidence = f"images/ and 1st_manual/; {parts[0].matches.rule}"
    result = merge_folders("drive", evidence, parts, notes=notes, official="the training and test folders")
    return replace(result, class_names=("background", "vessel"))


def detect_nnunet(source: Path) -> DiscoveredDataset | None:
    """Detect nnU-Net raw of images: dataset.json, imagesTr/ with one file per channel, labelsTr/, splits_final.json."""
    if not (source / "dataset.json").is_file() or not (source / "imagesTr").is_dir():
        return None
    description = _read_json(source / "dataset.json")
    if not isinstance(description, dict):
        raise DataError(f"{source / 'dataset.json'}: expected an object, found {type(description).__name__}")
    if any(is_volume_file(path) for path in (source / "imagesTr").iterdir()):
        return None
    pairs, unmatched = _read_nnunet_part(source, "Tr", "train")
    test_pairs, test_unmatched = _read_nnunet_part(source, "Ts", "test")
    notes = (
        []
        if (source / "labelsTs").is_dir() or not test_unmatched.unmatched_images
        else ["imagesTs/ has no labels and is left out"]
    )
    pairs, official = apply_nnunet_folds(source, pairs)
    folders = "the Tr and Ts folders" if test_pairs else ""
    return DiscoveredDataset(
        "nnunet",
        f"dataset.json, imagesTr/ and labelsTr/ with {max((len(pair.images) for pair in pairs), default=0)} channels",
        sorted([*pairs, *test_pairs], key=lambda pair: pair.id),
        [*unmatched.unmatched_images, *([] if notes else test_unmatched.unmatched_images)],
        [*unmatched.unmatched_masks, *test_unmatched.unmatched_masks],
        notes=notes,
        class_names=_read_nnunet_classes(description, source),
        ignore_label=read_nnunet_ignore_label(description, source),
        official=" and ".join(text for text in (folders, official) if text),
    )


def _read_nnunet_part(source: Path, part: str, split: str) -> tuple[list[ImageMaskPair], MatchResult]:
    folder, labels = source / f"images{part}", source / f"labels{part}"
    files = find_images(folder) if folder.is_dir() else []
    masks = {path.stem: path for path in find_images(labels)} if labels.is_dir() else {}
    # The older Decathlon style has no channel number.
    numbered = all(re.search(r"_\d{4}$", path.stem) for path in files)
    channels: dict[str, list[Path]] = {}
    for path in files:
        channels.setdefault(path.stem[:-5] if numbered else path.stem, []).append(path)
    expected = max((len(paths) for paths in channels.values()), default=0)
    short = [case for case, paths in channels.items() if len(paths) != expected]
    if short:
        raise DataError(f"{folder}: {', '.join(short[:10])} lack a channel, the others have {expected}")
    pairs = [
        ImageMaskPair(case, tuple(paths), (masks[case],), split=split)
        for case, paths in channels.items()
        if case in masks
    ]
    unmatched = MatchResult(
        [],
        unmatched_images=[paths[0] for case, paths in channels.items() if case not in masks],
        unmatched_masks=[path for case, path in masks.items() if case not in channels],
    )
    return pairs, unmatched


def _read_nnunet_classes(description: dict[str, Any], source: Path) -> tuple[str, ...] | None:
    labels = description.get("labels")
    if not isinstance(labels, dict) or not labels:
        return None
    if any(isinstance(value, list) for value in labels.values()):
        raise DataError(f"{source / 'dataset.json'}: regions (labels that are lists) are not supported yet")
    labels = {name: value for name, value in labels.items() if name != "ignore"}
    try:
        # Version 2 has {"polyp": 1}, version 1 {"1": "polyp"}.
        by_index = {int(value): str(name) for name, value in labels.items()}
    except (TypeError, ValueError):
        by_index = {int(index): str(name) for index, name in labels.items() if str(index).isdigit()}
    if sorted(by_index) != list(range(len(by_index))):
        raise DataError(f"{source / 'dataset.json'}: labels are {sorted(by_index)}, expected 0, 1, 2, ... without gaps")
    return tuple(by_index[index] for index in sorted(by_index))


def read_nnunet_ignore_label(description: dict[str, Any], source: Path) -> int | None:
    """nnU-Net's label "ignore", of pixels that were not annotated."""
    labels = description.get("labels")
    if not isinstance(labels, dict) or labels.get("ignore") is None:
        return None
    found = labels["ignore"]
    others = {str(value): name for name, value in labels.items() if name != "ignore"}
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise DataError(f"{source / 'dataset.json'}: the label ignore is {found!r}, expected a whole number above 0")
    if str(found) in others:
        raise DataError(f"{source / 'dataset.json'}: labels {others[str(found)]} and ignore are both {found}")
    return int(found)


def apply_nnunet_folds(source: Path, pairs: list[ImageMaskPair]) -> tuple[list[ImageMaskPair], str]:
    path = source / "splits_final.json"
    if not path.is_file():
        return pairs, ""
    folds = _read_json(path)
    try:
        fold_of = {str(case): index for index, fold in enumerate(folds) for case in fold["val"]}
    except (TypeError, KeyError) as error:
        raise DataError(f'{path}: expected [{{"train": [...], "val": [...]}}, ...]') from error
    return [_assign_fold(pair, fold_of.get(pair.id)) for pair in pairs], "splits_final.json (fold 0 is val)"


def _apply_tn3k_folds(dataset: DiscoveredDataset, source: Path) -> DiscoveredDataset:
    files = [source / f"tn3k-trainval-fold{fold}.json" for fold in range(5)]
    if not all(path.is_file() for path in files):
        return dataset
    ordered = sorted(
        (pair for pair in dataset.pairs if pair.split == "train"), key=lambda pair: _number_in_name(pair.id)
    )
    fold_of: dict[str, int] = {}
    for fold, path in enumerate(files):
        content = _read_json(path)
        try:
            fold_of |= {ordered[int(position)].id: fold for position in content["val"]}
        except (TypeError, KeyError, ValueError, IndexError) as error:
            expected = f"positions 0..{len(ordered) - 1} under 'val'"
            raise DataError(f"{path}: expected {expected} ({type(error).__name__}: {error})") from error
    pairs = [_assign_fold(pair, fold_of.get(pair.id)) for pair in dataset.pairs]
    return replace(dataset, pairs=pairs, official=f"{dataset.official}, five fold files (fold 0 is val)")


def _assign_fold(pair: ImageMaskPair, fold: int | None) -> ImageMaskPair:
    if fold is None:
        return pair
    return replace(pair, fold=fold, split="val" if fold == 0 else pair.split)


def _number_in_name(name: str) -> tuple[int, str]:
    digits = re.findall(r"\d+", name)
    return (int(digits[-1]) if digits else 0, name)


def _read_json(path: Path) -> Any:
    return read_json(path, hint="restore the file of the data set")


def _find_isic_images(folder: Path) -> list[Path]:
    """Images of an ISIC data folder without its superpixel maps."""
    return [path for path in find_images(folder) if not path.stem.lower().endswith("_superpixels")]


def _unnest(folder: Path) -> Path:
    """The inner folder if unpacking made `X/X/*.jpg`, else the folder itself."""
    inner = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
    return inner[0] if len(inner) == 1 and not _has_images(folder) else folder


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and bool(find_images(folder))
