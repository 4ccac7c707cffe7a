"""Files of volumes: which there are, and how masks are matched with them by name."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from guidino_cli.data.volumes.reading import VOLUME_FILE_SUFFIXES, is_volume_file
from guidino_cli.preparation.matching import MatchResult, mask_stem, match_masks


def find_volumes(folder: Path) -> list[Path]:
    """Files with volumes that lie directly in a folder, sorted."""
    return sorted(path for path in folder.iterdir() if is_volume_file(path) and path.is_file())


def volume_stem(path: Path) -> str:
    """The name of a file without the suffix of its format: `a.1` of `a.1.nii.gz`."""
    name = path.name
    return next(
        (name[: -len(suffix)] for suffix in VOLUME_FILE_SUFFIXES if name.lower().endswith(suffix)), Path(name).stem
    )


def strip_mask_words(stem: str) -> str:
    """A mask's stem without `_seg`, `_label` and the like, also where there are several, as in `t2_seg-manual`."""
    while (shorter := mask_stem(stem)) != stem:
        stem = shorter
    return stem


def mask_owner(stem: str, suffixes: Sequence[str]) -> str | None:
    """The stem of the volume that a mask belongs to, by its own name; None if it is not named as a mask.

    Args:
        stem: Of a file.
        suffixes: Endings of the names of masks; () for the usual words.
    """
    if suffixes:
        return next((stem[: -len(suffix)] for suffix in suffixes if stem.endswith(suffix) and stem != suffix), None)
    owner = strip_mask_words(stem)
    return None if owner == stem else owner


def match_volumes(images: Iterable[Path], masks: Iterable[Path], suffixes: Sequence[str] = ()) -> MatchResult:
    """Match volumes with their masks by name; see `matching.match_masks` for the rules.

    Args:
        images: Volumes.
        masks: Label volumes.
        suffixes: Endings of the names of masks; () for the usual words.
    """
    # The rules know stems by the last suffix only.
    paths = {_alias(path, volume_stem(path)): path for path in images}
    owners = {_alias(path, mask_owner(volume_stem(path), suffixes) or volume_stem(path)): path for path in masks}
    result = match_masks(list(paths), list(owners))
    both = paths | owners
    return MatchResult(
        [(stem, paths[image], tuple(owners[mask] for mask in found)) for stem, image, found in result.pairs],
        [paths[path] for path in result.unmatched_images],
        [owners[path] for path in result.unmatched_masks],
        [tuple(both[path] for path in group) for group in result.collisions],
        result.rule,
        result.is_several,
    )


def _alias(path: Path, stem: str) -> Path:
    """A path whose `stem` is the stem; different files get different ones."""
    suffix = path.name[len(volume_stem(path)) :]
    return path.parent / f"{stem}.{suffix.replace('.', '')}"
