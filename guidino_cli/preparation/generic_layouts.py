"""Detect generic layouts: sibling folders, one folder with suffixes, a CSV of pairs."""

import re
from dataclasses import replace
from pathlib import Path

from guidino_cli.data.images import find_images, is_image
from guidino_cli.data.volumes.reading import is_volume_file
from guidino_cli.errors import DataError
from guidino_cli.preparation.matching import MatchResult, is_mask_name, match_masks, pair_single_files
from guidino_cli.preparation.types import (
    DiscoveredDataset,
    ImageMaskPair,
    MatchedFolders,
    apply_split_lists,
    merge_folders,
)
from guidino_cli.progress import join_first
from guidino_cli.tables import path_of_cell, read_csv, read_rows

_IMAGE_WORDS = {"image", "images", "img", "imgs", "jpegimages", "input", "inputs", "original", "originals", "data", "x"}
_MASK_WORDS = {
    "mask",
    "masks",
    "label",
    "labels",
    "gt",
    "gts",
    "groundtruth",
    "truth",
    "target",
    "targets",
    "manual",
    "y",
}
_MASK_WORDS |= {"annotation", "annotations", "annot", "annots", "ann", "anno", "seg", "segs", "segmentation"}
_MASK_WORDS |= {"segmentations", "segmentationclass"}
_SPLIT_WORDS = {"train": "train", "training": "train", "trainset": "train", "trn": "train", "tr": "train"}
_SPLIT_WORDS |= {"val": "val", "valid": "val", "validation": "val", "dev": "val"}
_SPLIT_WORDS |= {"test": "test", "testing": "test", "testset": "test", "tst": "test", "ts": "test"}
COLUMNS = {"image", "mask", "id", "split", "fold", "group"}
_NOISE_WORDS = {"ground", "the", "and", "1st", "2nd", "all"}
_MAX_DEPTH = 3
_MAX_NAMED = 4


def detect_sibling_folders(source: Path) -> DiscoveredDataset | None:
    """Detect pairs of folders such as images/ and masks/, in any order with train/, val/, test/."""
    if not source.is_dir():
        return None
    groups = _group_folders(source)
    if not groups:
        return _detect_masks_in_folders(source)
    for kinds in groups.values():
        for kind, folders in kinds.items():
            if len(folders) > 1:
                clash = ", ".join(str(folder.relative_to(source)) for folder in folders)
                raise DataError(f"{source}: {clash} all look like folders of {kind}s; move or name one, or use a CSV")
    has_splits = any(split for _, split in groups)
    parts = [_match_folders(key, kinds) for key, kinds in sorted(groups.items())]
    if not any(part.matches.pairs for part in parts) and (nested := _detect_masks_in_folders(source)):
        return nested
    if any(part.matches.is_several for part in parts):
        parts = [replace(part, matches=pair_single_files(part.matches)) for part in parts]
    if all(len(part.matches.pairs) <= 1 for part in parts):
        # A folder for each image says nothing about kinds of cases.
        parts = [replace(part, stratum="") for part in parts]
    names = [
        f"{_relative_name(source, kinds['image'])} and {_relative_name(source, kinds['mask'])}"
        for _, kinds in sorted(groups.items())
    ]
    rules = sorted({part.matches.rule for part in parts})
    dataset = merge_folders(
        "siblings",
        f"folders {join_first(names, '; ', limit=_MAX_NAMED)}; {' / '.join(rules)}",
        parts,
        official="names of the folders" if has_splits else "",
    )
    return apply_split_lists(dataset, source)


def _detect_masks_in_folders(source: Path) -> DiscoveredDataset | None:
    """Detect images beside a folder that holds a folder of masks for each of them: images/c0.png, masks/c0/*.png."""
    folders = find_image_folders(source)
    images: dict[tuple[str, str], Path] = {}
    masks: dict[tuple[str, str], list[Path]] = {}
    for folder in folders:
        kind, split, rest = parse_folder_name(folder.relative_to(source))
        parent_kind, parent_split, parent_rest = parse_folder_name(folder.parent.relative_to(source))
        if kind == "image":
            images[rest, split] = folder
        if parent_kind == "mask" and folder.parent not in folders:
            masks.setdefault((parent_rest, parent_split), []).append(folder)
    parts = []
    for key in sorted(images.keys() & masks.keys()):
        by_name = {folder.name.lower(): find_images(folder) for folder in masks[key]}
        files = find_images(images[key])
        pairs = [(path.stem, path, tuple(by_name.pop(path.stem.lower(), ()))) for path in files]
        left = [path for path, (_, _, own) in zip(files, pairs, strict=True) if not own]
        unused = [path for own in by_name.values() for path in own]
        rule = "a folder of masks for each image"
        matches = MatchResult([pair for pair in pairs if pair[2]], left, unused, rule=rule, is_several=True)
        parts.append(MatchedFolders(matches, key[1] or None, "_".join(word for word in key if word), key[0]))
    if not any(part.matches.pairs for part in parts):
        return None
    official = "names of the folders" if any(part.split for part in parts) else ""
    evidence = "images beside a folder of masks for each of them"
    return apply_split_lists(merge_folders("siblings", evidence, parts, official=official), source)


def detect_single_folder(source: Path) -> DiscoveredDataset | None:
    """Detect one folder in which a mask is named as its image plus a word such as `_mask`."""
    if not source.is_dir():
        return None
    files = find_images(source)
    masks = [path for path in files if is_mask_name(path.stem)]
    images = [path for path in files if not is_mask_name(path.stem)]
    if not masks or not images:
        return None
    matches = match_masks(images, masks)
    if not matches.pairs:
        return None
    evidence = f"one folder, {len(masks)} of {len(files)} files are named as masks; {matches.rule}"
    return apply_split_lists(merge_folders("suffix", evidence, [MatchedFolders(matches)]), source)


def detect_csv(source: Path) -> DiscoveredDataset | None:
    """Read a CSV with the columns image and mask, and optionally id, split, fold and group; paths relative to it.

    Further columns are kept for every case, for `guidino evaluate --by` and `--group`.
    """
    if not source.is_file() or source.suffix.lower() not in {".csv", ".tsv"}:
        return None
    headings, rows = read_csv(source)
    columns = [heading.strip().lower() for heading in headings]
    if not {"image", "mask"} <= set(columns):
        raise DataError(f"{source}: found the columns {', '.join(columns) or 'none'}, expected at least image and mask")
    named = [{heading.strip().lower(): row[heading] for heading in headings} for row in rows]
    pairs = [_parse_row(source, row, line) for line, row in enumerate(named, start=2)]
    if volume := next((path for pair in pairs for path in pair.images if is_volume_file(path)), None):
        raise DataError(
            f"{source}: lists {volume.name}, a volume, but tables are for images; prepare a folder with images/ and "
            "masks/ of equal names, and choose the split with --split or lists of names (train.txt, val.txt, test.txt)"
        )
    count = len(pairs)
    pairs = _join_rows_of_one_image(pairs)
    split_count = sum(pair.split is not None for pair in pairs)
    if split_count not in {0, len(pairs)}:
        raise DataError(f"{source}: {len(pairs) - split_count} rows have no split, the others have; fill all or none")
    official = "column split" if split_count else ""
    evidence = f"{count} rows with the columns {', '.join(columns)}"
    ordered = sorted(pairs, key=lambda pair: pair.id)
    return DiscoveredDataset("csv", evidence, ordered, official=official, needs_merging=len(pairs) < count)


def _join_rows_of_one_image(pairs: list[ImageMaskPair]) -> list[ImageMaskPair]:
    """Join rows that differ only in their masks; equal rows stay, and are reported as repeated ids."""
    joined: dict[tuple[object, ...], ImageMaskPair] = {}
    repeated: list[ImageMaskPair] = []
    for pair in pairs:
        key = (pair.id, pair.images, pair.split, pair.fold, pair.group)
        before = joined.get(key)
        if before is None:
            joined[key] = pair
        elif set(before.masks) & set(pair.masks):
            repeated.append(pair)
        else:
            joined[key] = replace(before, masks=(*before.masks, *pair.masks))
    return [*joined.values(), *repeated]


def read_group_table(path: Path) -> dict[str, str]:
    """Read a table of cases and their groups (patients, videos): case in the first column, group in the last."""
    rows = [cells for _, cells in read_rows(path)]
    if not rows or min(len(row) for row in rows) < 2:
        raise DataError(f"{path}: expected two columns, case and group")
    return {row[0].strip(): row[-1].strip() for row in rows}


def _parse_row(source: Path, row: dict[str, str], line: int) -> ImageMaskPair:
    image, mask = (row.get("image") or "").strip(), (row.get("mask") or "").strip()
    if not image or not mask:
        raise DataError(f"{source}: line {line} has no {'mask' if image else 'image'}")
    split = (row.get("split") or "").strip().lower()
    if split and split not in _SPLIT_WORDS:
        raise DataError(f"{source}: line {line} has the split '{split}', expected train, val or test")
    fold = (row.get("fold") or "").strip()
    if fold and not fold.isdigit():
        raise DataError(f"{source}: line {line} has the fold '{fold}', expected 0, 1, 2, ...")
    path = path_of_cell(source.parent, image)
    return ImageMaskPair(
        id=(row.get("id") or "").strip() or path.stem,
        images=(path,),
        masks=tuple(path_of_cell(source.parent, name.strip()) for name in mask.split(";")),
        split=_SPLIT_WORDS.get(split),
        fold=int(fold) if fold else None,
        group=(row.get("group") or "").strip() or None,
        fields={name: (row[name] or "").strip() for name in row if name and name not in COLUMNS},
    )


def find_image_folders(source: Path) -> list[Path]:
    """Folders below `source`, at any depth, that directly hold images; hidden ones and `__MACOSX` are left out."""
    return [
        folder
        for folder in sorted(path for path in source.rglob("*") if path.is_dir())
        if not any(part.startswith((".", "__")) for part in folder.relative_to(source).parts)
        and any(is_image(path) for path in folder.iterdir())
    ]


def has_split_word(name: str) -> bool:
    """Whether a folder is named as a part of a split: `train`, `test-images`, `test2`."""
    return any(_find_split(word) for word in _words(name))


def find_split_word(name: str) -> str:
    """Part of a split that a name states, such as train of `instances_train2017`; "" if none."""
    return next((split for word in _words(name) if (split := _find_split(word))), "")


def _group_folders(source: Path) -> dict[tuple[str, str], dict[str, list[Path]]]:
    """Folders of images and of masks by (rest of the name, split), where there are both.

    A folder without a partner that is the only one in `imgs/` or `masks/` is looked for under that name.
    """
    groups: dict[tuple[str, str], dict[str, list[Path]]] = {}
    folders = find_image_folders(source)
    for shorten in (False, True):
        used = {path for kinds in groups.values() for paths in kinds.values() for path in paths}
        for folder in folders:
            relative = _skip_lone_folders(source, folder) if shorten else folder.relative_to(source)
            kind, split, rest = parse_folder_name(relative)
            if kind is not None and folder not in used and len(relative.parts) <= _MAX_DEPTH:
                groups.setdefault((rest, split), {}).setdefault(kind, []).append(folder)
        groups = {key: kinds for key, kinds in groups.items() if len(kinds) == 2}
    return groups


def _skip_lone_folders(source: Path, folder: Path) -> Path:
    """Path of a folder without its last parts that have nothing beside them and name neither kind nor split."""
    relative = folder.relative_to(source)
    while len(relative.parts) > 1:
        kind, split, _ = parse_folder_name(Path(relative.name))
        siblings = [path for path in (source / relative).parent.iterdir() if not path.name.startswith(".")]
        if kind or split or len(siblings) > 1:
            break
        relative = relative.parent
    return relative


def parse_folder_name(relative: Path) -> tuple[str | None, str, str]:
    """Split a folder's path into kind ("image", "mask" or None), split or "", and the rest that siblings share."""
    kind: str | None = None
    split, rest = "", list[str]()
    for part in reversed(relative.parts):
        words = _words(part)
        is_kind_part = kind is None and any(word in _IMAGE_WORDS | _MASK_WORDS for word in words)
        if is_kind_part:
            kind = "mask" if any(word in _MASK_WORDS for word in words) else "image"
        for word in words:
            if _find_split(word) and not split:
                split = _find_split(word)
                rest += re.findall(r"\d+$", word)
            elif not (is_kind_part and word in _IMAGE_WORDS | _MASK_WORDS | _NOISE_WORDS):
                rest.append(word)
    return kind, split, "_".join(reversed(rest))


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[-_ .]+", name.lower()) if word]


def _find_split(word: str) -> str:
    """Split that a word names, with or without a number (`test`, `test2`); "" if none."""
    return _SPLIT_WORDS.get(word.rstrip("0123456789"), "")


def _match_folders(key: tuple[str, str], kinds: dict[str, list[Path]]) -> MatchedFolders:
    rest, split = key
    matches = match_masks(find_images(kinds["image"][0]), find_images(kinds["mask"][0]))
    prefix = "_".join(word for word in (rest, split) if word)
    return replace(MatchedFolders(matches), split=split or None, prefix=prefix, stratum=rest)


def _relative_name(source: Path, folders: list[Path]) -> str:
    return f"{folders[0].relative_to(source).as_posix()}/"
