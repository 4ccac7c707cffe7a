"""Files of volumes: which there are, and how masks are matched with them by name."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from guidino_cli.data.volumes.reading import is_volume_file
from guidino_cli.errors import DataError
from guidino_cli.files import file_stem
from guidino_cli.preparation.matching import MatchResult, image_stem, mask_stem, match_masks


def find_volumes(folder: Path) -> list[Path]:
    """Files with volumes that lie directly in a folder, sorted."""
    return sorted(path for path in folder.iterdir() if is_volume_file(path) and path.is_file())


def strip_mask_words(stem: str) -> str:
    """A mask's stem without `_seg`, `_label` and the like, also where there are several, as in `t2_seg-manual`."""
    while (shorter := mask_stem(stem)) != stem:
        stem = shorter
    return stem


def mask_owner(stem: str, suffixes: Sequence[str]) -> str | None:
    """The stem of the volume that a mask belongs to, by its own name; None if it is not named as a mask.

    Args:
        stem: Stem of a file.
        suffixes: Endings of the names of masks; () for the usual words.
    """
    if suffixes:
        return next((stem[: -len(suffix)] for suffix in suffixes if stem.endswith(suffix) and stem != suffix), None)
    owner = strip_mask_words(stem)
    return None if owner == stem else owner


class ChannelFiles(NamedTuple):
    """Files of the channels of cases.

    Attributes:
        cases: Name of the case -> a file for each channel, or one file for all.
        incomplete: Cases that lack a channel, with the names of those that they lack.
        others: Files that are no channel.
    """

    cases: dict[str, tuple[Path, ...]]
    incomplete: dict[str, str]
    others: list[Path]


def group_channels(images: Sequence[Path], channels: Sequence[str]) -> ChannelFiles:
    """Put the files of one case together: those named `ID_T1` and `ID_T2`, or `ID_0000` and `ID_0001`.

    Where no name ends with the name of a channel, or there is only one, each file is a case of its own.

    Args:
        images: Volumes of a folder.
        channels: Names of the channels; () if none were given.
    """
    for endings in (list(channels), [f"{number:04d}" for number in range(len(channels))]):
        found: dict[str, dict[int, Path]] = {}
        others = []
        for path in images:
            stem = file_stem(path)
            number = _find_ending(stem, endings)
            if number is None:
                others.append(path)
            else:
                found.setdefault(stem[: -len(endings[number]) - 1], {})[number] = path
        if found:
            whole = {case: files for case, files in found.items() if len(files) == len(channels)}
            lack = {
                case: ", ".join(name for number, name in enumerate(channels) if number not in files)
                for case, files in found.items()
                if case not in whole
            }
            cases = {case: tuple(files[number] for number in range(len(channels))) for case, files in whole.items()}
            return ChannelFiles(cases, lack, others)
    return ChannelFiles({file_stem(path): (path,) for path in images}, {}, [])


def _find_ending(stem: str, endings: Sequence[str]) -> int | None:
    """Position of the ending that a stem has after a separator, in upper or lower case."""
    return next(
        (n for n, name in enumerate(endings) if re.search(rf"[-_. ]{re.escape(name)}$", stem, re.IGNORECASE)), None
    )


def mask_endings(pairs: Sequence[tuple[Path, Path]]) -> dict[str, list[Path]]:
    """Endings of the names of masks after those of their volumes, such as "_seg": ending -> masks.

    Upper and lower case and the kind of separator do not matter. Masks that are named in another way are left out.

    Args:
        pairs: Volumes and their masks.
    """
    found: dict[str, list[Path]] = {}
    for image, mask in pairs:
        own, stem = image_stem(file_stem(image)).lower(), file_stem(mask).lower()
        if stem.startswith(own):
            found.setdefault(re.sub(r"[-. ]", "_", stem[len(own) :]), []).append(mask)
    return found


class VolumeMatches(NamedTuple):
    """Cases of volumes matched with their masks.

    Attributes:
        pairs: Name of the case, files of its channels, masks.
        matches: Pairs by first channel, and the files without a partner.
        incomplete: Cases that lack a channel: `ID (T2)`.
    """

    pairs: list[tuple[str, tuple[Path, ...], tuple[Path, ...]]]
    matches: MatchResult
    incomplete: list[str]


def match_volumes(
    images: Sequence[Path], masks: Sequence[Path], *, channels: Sequence[str] = (), suffixes: Sequence[str] = ()
) -> VolumeMatches:
    """Match volumes with their masks by name; see `matching.match_masks` for the rules.

    Args:
        images: Volumes.
        masks: Label volumes.
        channels: Names of the channels; () if none were given.
        suffixes: Endings of the names of masks; () for the usual words.

    Raises:
        DataError: Two masks in one folder belong to one volume by their names.
    """
    groups = group_channels(images, channels)
    # The rules know stems by the last suffix only.
    files = {_alias(paths[0], case): (case, paths) for case, paths in groups.cases.items()}
    files |= {_alias(path, file_stem(path)): (file_stem(path), (path,)) for path in groups.others}
    owners: dict[Path, Path] = {}
    for path in masks:
        owner = mask_owner(file_stem(path), suffixes) or file_stem(path)
        other = owners.setdefault(_alias(path, owner), path)
        if other != path:
            raise DataError(
                f"{path.parent}: {other.name} and {path.name} are both named as masks of {owner}, expected one; move "
                "one away (`guidino prepare` can choose with --mask-suffix)"
            )
    result = match_masks(list(files), list(owners))
    first = {alias: paths[0] for alias, (_, paths) in files.items()} | owners
    matched = [(image, tuple(owners[mask] for mask in found)) for _, image, found in result.pairs]
    lacking = [f"{case} ({names})" for case, names in sorted(groups.incomplete.items())]
    # A mask of an incomplete case is accounted for by its case.
    unmatched = [owners[path] for path in result.unmatched_masks if path.stem not in groups.incomplete]
    matches = replace(
        result,
        rule=f"masks end with {' or '.join(suffixes)}" if suffixes else result.rule,
        pairs=[(files[image][0], files[image][1][0], found) for image, found in matched],
        unmatched_images=[first[path] for path in result.unmatched_images],
        unmatched_masks=unmatched,
        collisions=[tuple(first[path] for path in group) for group in result.collisions],
    )
    return VolumeMatches([(*files[image], found) for image, found in matched], matches, lacking)


def _alias(path: Path, stem: str) -> Path:
    """A path whose `stem` is the stem; different files get different ones."""
    suffix = path.name[len(file_stem(path)) :]
    return path.parent / f"{stem}.{suffix.replace('.', '')}"
