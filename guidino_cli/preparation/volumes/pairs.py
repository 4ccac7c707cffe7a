"""Detect folders of volumes and masks: two folders, or one in which masks are named by an ending."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from guidino_cli.data.volumes.reading import is_volume_file
from guidino_cli.errors import DataError
from guidino_cli.files import file_stem
from guidino_cli.preparation.generic_layouts import has_split_word, parse_folder_name
from guidino_cli.preparation.options import VolumeConfig
from guidino_cli.preparation.types import DiscoveredDataset, MatchedFolders, apply_split_lists, merge_folders
from guidino_cli.preparation.volumes.files import (
    VolumeMatches,
    find_volumes,
    mask_endings,
    mask_owner,
    match_volumes,
)

_MAX_DEPTH = 3


def detect_volume_pairs(source: Path, config: VolumeConfig) -> DiscoveredDataset | None:
    """Detect images/ and masks/ with volumes, also within train/, val/, test/, or masks beside their volumes."""
    if not source.is_dir():
        return None
    dataset = _detect_sibling_folders(source, config) or _detect_single_folder(source, config)
    if dataset is None:
        return None
    return apply_split_lists(_name_unused_folders(dataset, source), source)


def _name_unused_folders(dataset: DiscoveredDataset, source: Path) -> DiscoveredDataset:
    """Name the folders of volumes of which none is used; a part of a split (`test2/`) among them is an error later."""
    files = [path for pair in dataset.pairs for path in (*pair.images, *pair.masks)]
    files += [*dataset.unmatched_images, *dataset.unmatched_masks]
    files += [path for group in dataset.collisions for path in group]
    used = {path.parent for path in files}
    used_or_above = used | {above for folder in used for above in folder.parents}
    notes, parts = list(dataset.notes), []
    for folder in find_volume_folders(source):
        if folder in used:
            continue
        inside = [path for path in (folder, *folder.parents) if path != source and path.is_relative_to(source)]
        of_split = {path for path in inside if has_split_word(path.name)}
        if of_split and not used_or_above & of_split:
            parts.append(folder)
        else:
            notes.append(f"{folder.relative_to(source).as_posix()}/ is not used")
    return replace(dataset, notes=notes, unused_parts=parts)


def _merge(
    evidence: str, matched: Sequence[tuple[VolumeMatches, MatchedFolders]], official: str, config: VolumeConfig
) -> DiscoveredDataset:
    """One data set of several pairs of folders; all channels of its cases."""
    if not config.channels and not config.mask_suffixes:
        _require_one_kind_of_masks(matched)
    dataset = merge_folders("nifti", evidence, [folders for _, folders in matched], official=official)
    channels = {images[0]: images for matches, _ in matched for _, images, _ in matches.pairs}
    count = max((len(images) for images in channels.values()), default=1)
    if count > 1:
        evidence += f"; {count} channels by the ends of the names"
    return replace(
        dataset,
        evidence=evidence,
        pairs=[replace(pair, images=channels[pair.images[0]]) for pair in dataset.pairs],
        is_volumes=True,
        channels=config.channels or ("image",),
        incomplete=[text for matches, _ in matched for text in matches.incomplete],
        # Several masks of a volume are refused with the reason of their own.
        needs_merging=False,
    )


def _require_one_kind_of_masks(matched: Sequence[tuple[VolumeMatches, MatchedFolders]]) -> None:
    """Refuse masks of several endings, such as _seg and _lesion: they show different things, but would be one class.

    Raises:
        DataError: There are several, and the user chose none.
    """
    pairs = [(images[0], masks[0]) for matches, _ in matched for _, images, masks in matches.pairs]
    endings = mask_endings(pairs)
    if len(endings) > 1:
        kinds = ", ".join(f"{ending or 'as its volume'} ({masks[0].name})" for ending, masks in sorted(endings.items()))
        raise DataError(
            f"{pairs[0][1].parent}: names of masks end in {len(endings)} ways, {kinds}; if they show one thing, name "
            "all with --mask-suffix, else only those of one"
        )


def _detect_sibling_folders(source: Path, config: VolumeConfig) -> DiscoveredDataset | None:
    groups: dict[tuple[str, str], dict[str, list[Path]]] = {}
    for folder in find_volume_folders(source):
        kind, split, rest = parse_folder_name(folder.relative_to(source))
        if kind is not None and len(folder.relative_to(source).parts) <= _MAX_DEPTH:
            groups.setdefault((rest, split), {}).setdefault(kind, []).append(folder)
    groups = {key: kinds for key, kinds in groups.items() if len(kinds) == 2}
    if not groups:
        return None
    for kinds in groups.values():
        for kind, folders in kinds.items():
            if len(folders) > 1:
                clash = ", ".join(str(folder.relative_to(source)) for folder in folders)
                raise DataError(f"{source}: {clash} all look like folders of {kind}s; move or name one")
    parts = [_match_folders(key, kinds, config) for key, kinds in sorted(groups.items())]
    names = [
        f"{kinds['image'][0].relative_to(source).as_posix()}/ and {kinds['mask'][0].relative_to(source).as_posix()}/"
        for _, kinds in sorted(groups.items())
    ]
    rules = " / ".join(sorted({folders.matches.rule for _, folders in parts}))
    official = "names of the folders" if any(folders.split for _, folders in parts) else ""
    return _merge(f"volumes in {'; '.join(names)}; {rules}", parts, official, config)


def _match_folders(
    key: tuple[str, str], kinds: dict[str, list[Path]], config: VolumeConfig
) -> tuple[VolumeMatches, MatchedFolders]:
    rest, split = key
    images, masks = find_volumes(kinds["image"][0]), find_volumes(kinds["mask"][0])
    found = match_volumes(images, masks, channels=config.channels, suffixes=config.mask_suffixes)
    prefix = "_".join(word for word in (rest, split) if word)
    return found, MatchedFolders(found.matches, split=split or None, prefix=prefix, stratum=rest)


def _detect_single_folder(source: Path, config: VolumeConfig) -> DiscoveredDataset | None:
    files = find_volumes(source)
    masks = [path for path in files if mask_owner(file_stem(path), config.mask_suffixes) is not None]
    images = [path for path in files if path not in set(masks)]
    if not masks or not images:
        return None
    found = match_volumes(images, masks, channels=config.channels, suffixes=config.mask_suffixes)
    if not found.pairs and not found.incomplete:
        return None
    evidence = f"one folder, {len(masks)} of {len(files)} volumes are named as masks; {found.matches.rule}"
    return _merge(evidence, [(found, MatchedFolders(found.matches))], "", config)


def find_volume_folders(source: Path) -> list[Path]:
    """Folders below `source` that directly hold volumes; hidden ones are left out."""
    return [
        folder
        for folder in sorted(path for path in source.rglob("*") if path.is_dir())
        if not any(part.startswith((".", "__")) for part in folder.relative_to(source).parts)
        and any(is_volume_file(path) for path in folder.iterdir())
    ]
