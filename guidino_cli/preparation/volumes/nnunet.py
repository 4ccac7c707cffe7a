"""Detect volumes as nnU-Net and the Medical Segmentation Decathlon keep them: dataset.json, imagesTr/, labelsTr/."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from guidino_cli.errors import DataError
from guidino_cli.files import file_stem
from guidino_cli.preparation.options import VolumeConfig
from guidino_cli.preparation.public_layouts import apply_nnunet_folds, read_nnunet_ignore_label
from guidino_cli.preparation.types import DiscoveredDataset, ImageMaskPair
from guidino_cli.preparation.volumes.descriptions import (
    choose_channels,
    read_channels,
    read_description,
    read_labels,
)
from guidino_cli.preparation.volumes.files import find_volumes


def detect_nnunet_volumes(source: Path, config: VolumeConfig) -> DiscoveredDataset | None:
    """Detect nnU-Net raw: imagesTr/ID_0000.nii.gz, one file per channel, and labelsTr/ID.nii.gz."""
    description = read_description(source)
    if description is None or not (source / "imagesTr").is_dir() or _has_decathlon_list(description, source):
        return None
    training, test = _read_part(source, "Tr", "train"), _read_part(source, "Ts", "test")
    if not (training.pairs or training.images or training.incomplete):
        return None
    pairs, official = apply_nnunet_folds(source, training.pairs)
    pairs = sorted([*pairs, *test.pairs], key=lambda pair: pair.id)
    notes = []
    if test.images and not (source / "labelsTs").is_dir():
        notes.append(f"imagesTs/ has no labels: {len(test.images)} left out")
    labels = read_labels(description, source)
    count = max((len(pair.images) for pair in pairs), default=1)
    folders = "the Tr and Ts folders" if test.pairs else ""
    return DiscoveredDataset(
        "nnunet",
        f"dataset.json, imagesTr/ and labelsTr/ with {count} channel{'' if count == 1 else 's'}",
        pairs,
        [*training.images, *([] if notes else test.images)],
        [*training.masks, *test.masks],
        notes=notes,
        class_names=None if labels is None else labels.names,
        ignore_label=read_nnunet_ignore_label(description, source),
        official=" and ".join(text for text in (folders, official) if text),
        is_volumes=True,
        channels=choose_channels(read_channels(description, source), config.channels, count, source),
        label_values=None if labels is None else labels.values,
        incomplete=[*training.incomplete, *test.incomplete],
    )


def detect_decathlon(source: Path, config: VolumeConfig) -> DiscoveredDataset | None:
    """Detect the Medical Segmentation Decathlon: dataset.json lists image and label; channels are the fourth axis."""
    description = read_description(source)
    if description is None or not _has_decathlon_list(description, source):
        return None
    pairs = [_listed_pair(entry, source) for entry in description["training"]]
    unlabelled = description.get("test") or []
    notes = [f"test images have no labels: {len(unlabelled)} left out"] if unlabelled else []
    labels = read_labels(description, source)
    named = read_channels(description, source)
    return DiscoveredDataset(
        "msd",
        f"dataset.json lists {len(pairs)} images with their labels",
        sorted(pairs, key=lambda pair: pair.id),
        notes=notes,
        class_names=None if labels is None else labels.names,
        ignore_label=read_nnunet_ignore_label(description, source),
        is_volumes=True,
        channels=config.channels or named or ("image",),
        label_values=None if labels is None else labels.values,
    )


class _Part(NamedTuple):
    """Cases of imagesTr/ and labelsTr/, files without a partner, and cases without a channel."""

    pairs: list[ImageMaskPair]
    images: list[Path]
    masks: list[Path]
    incomplete: list[str]


def _read_part(source: Path, part: str, split: str) -> _Part:
    folder, labels = source / f"images{part}", source / f"labels{part}"
    files = find_volumes(folder) if folder.is_dir() else []
    masks = {file_stem(path): path for path in find_volumes(labels)} if labels.is_dir() else {}
    numbered = all(re.search(r"_\d{4}$", file_stem(path)) for path in files)
    channels: dict[str, list[Path]] = {}
    for path in files:
        stem = file_stem(path)
        channels.setdefault(stem[:-5] if numbered else stem, []).append(path)
    expected = max((len(paths) for paths in channels.values()), default=0)
    short = {case for case, paths in channels.items() if len(paths) != expected}
    lacking = [f"{case} ({len(channels.pop(case))} of {expected})" for case in sorted(short)]
    pairs = [
        ImageMaskPair(case, tuple(paths), (masks[case],), split=split)
        for case, paths in channels.items()
        if case in masks
    ]
    return _Part(
        pairs,
        [paths[0] for case, paths in channels.items() if case not in masks],
        [path for case, path in masks.items() if case not in channels.keys() | short],
        lacking,
    )


def _has_decathlon_list(description: dict[str, Any], source: Path) -> bool:
    """Whether `training` lists image files that are there under these names; nnU-Net 1 lists them without _0000."""
    listed = description.get("training")
    if not isinstance(listed, list) or not listed:
        return False
    return any(
        isinstance(entry, dict) and "label" in entry and (source / str(entry.get("image", ""))).is_file()
        for entry in listed
    )


def _listed_pair(entry: Any, source: Path) -> ImageMaskPair:
    if not isinstance(entry, dict) or not {"image", "label"} <= entry.keys():
        raise DataError(f"{source / 'dataset.json'}: a training case is {entry!r}, expected image and label")
    image, label = source / str(entry["image"]), source / str(entry["label"])
    return ImageMaskPair(file_stem(image), (image,), (label,))
