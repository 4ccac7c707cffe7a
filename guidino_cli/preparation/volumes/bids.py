"""Detect BIDS: sub-*/[ses-*/]anat/sub-*_T1w.nii.gz, with masks in derivatives/."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from guidino_cli.data.volumes.reading import is_volume_file
from guidino_cli.errors import DataError
from guidino_cli.files import file_stem
from guidino_cli.preparation.options import VolumeConfig
from guidino_cli.preparation.types import DiscoveredDataset, ImageMaskPair
from guidino_cli.progress import join_first, pluralize

_FOLDERS = ("anat", "ct", "pet")
# Of a mask that is named as its image and further: _seg, _seg-manual, _dseg, _label-lesion_dseg.
_USUAL_MASK = re.compile(r"(_[a-z]+-[A-Za-z0-9]+)*_d?seg([-_].*)?$")


@dataclass(frozen=True)
class _File:
    """A volume of BIDS.

    Attributes:
        path: Path of the file.
        subject: Subject, such as "sub-01".
        session: Subject and session, such as "sub-01_ses-2".
        base: The name without the contrast, such as "sub-01_ses-2_run-1".
        contrast: The last part of the name, such as "T1w".
    """

    path: Path
    subject: str
    session: str
    base: str
    contrast: str


def detect_bids(source: Path, config: VolumeConfig) -> DiscoveredDataset | None:
    """Detect BIDS; the contrasts of `--channels` are the channels of a case, and a session is a case.

    Raises:
        DataError: Several contrasts or kinds of masks, of which none was chosen.
    """
    if not source.is_dir() or not (source / "dataset_description.json").is_file():
        return None
    files = _find_files(source)
    if not files:
        return None
    masks = _find_masks(source)
    contrasts = _choose_contrasts(source, files, masks, config)
    cases, incomplete = _group(files, contrasts)
    endings, folders = _choose_endings(source, cases, masks, config)
    pairs, unmatched = [], []
    for name, own in cases.items():
        found = [path for path in masks if _ending(path, own[0]) in endings and _folder(path, source) in folders]
        if len(found) == 1:
            pairs.append(ImageMaskPair(name, tuple(file.path for file in own), (found[0],), group=own[0].subject))
        elif found:
            names = join_first([path.name for path in found])
            raise DataError(f"{source}: {name} has several masks: {names}; choose with --mask-suffix")
        else:
            unmatched.append(own[0].path)
    evidence = f"dataset_description.json, {pluralize(len(cases), 'session or run', 'sessions and runs')} with "
    return DiscoveredDataset(
        "bids",
        f"{evidence}{', '.join(contrasts)}, masks {', '.join(sorted(endings)) or 'none'} in derivatives/",
        sorted(pairs, key=lambda pair: pair.id),
        unmatched,
        is_volumes=True,
        channels=contrasts,
        incomplete=incomplete,
    )


def _find_files(source: Path) -> list[_File]:
    found = []
    for subject in sorted(path for path in source.glob("sub-*") if path.is_dir()):
        sessions = [subject, *sorted(path for path in subject.glob("ses-*") if path.is_dir())]
        for folder in (session / kind for session in sessions for kind in _FOLDERS):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                base, _, contrast = file_stem(path).rpartition("_")
                if is_volume_file(path) and base.startswith(subject.name):
                    session = subject.name if folder.parent == subject else f"{subject.name}_{folder.parent.name}"
                    found.append(_File(path, subject.name, session, base, contrast))
    return found


def _find_masks(source: Path) -> list[Path]:
    """Label volumes: files of derivatives/NAME/sub-*/ at any depth."""
    return sorted(path for path in source.glob("derivatives/*/sub-*/**/*") if is_volume_file(path) and path.is_file())


def _choose_contrasts(
    source: Path, files: Sequence[_File], masks: Sequence[Path], config: VolumeConfig
) -> tuple[str, ...]:
    counts = Counter(file.contrast for file in files)
    if config.channels:
        unknown = [name for name in config.channels if name not in counts]
        if unknown:
            raise DataError(f"{source}: has no {', '.join(unknown)}, only {_list_contrasts(files, masks)}")
        return config.channels
    if len(counts) > 1:
        raise DataError(
            f"{source}: has {len(counts)} contrasts, {_list_contrasts(files, masks)}; choose with --channels: "
            f"--channels {counts.most_common()[0][0]} for one, or several for the channels of a case"
        )
    return tuple(counts)


def _list_contrasts(files: Sequence[_File], masks: Sequence[Path]) -> str:
    counts = Counter(file.contrast for file in files)
    drawn = Counter(file.contrast for file in files if any(_ending(path, file) for path in masks))
    return ", ".join(f"{name} ({count}, {drawn[name]} with a mask)" for name, count in sorted(counts.items()))


def _group(files: Sequence[_File], contrasts: Sequence[str]) -> tuple[dict[str, list[_File]], list[str]]:
    """Files of each case in the order of the contrasts, and the cases that lack one.

    A case is a session; where a session has several files of a contrast, it is a run (all but the contrast is equal).
    """
    if len(contrasts) == 1:
        return {file.base: [file] for file in files if file.contrast == contrasts[0]}, []
    chosen = [file for file in files if file.contrast in contrasts]
    repeated = {session for (session, _), n in Counter((f.session, f.contrast) for f in chosen).items() if n > 1}
    found: dict[str, dict[str, _File]] = {}
    for file in chosen:
        found.setdefault(file.base if file.session in repeated else file.session, {})[file.contrast] = file
    lacking = {name: [c for c in contrasts if c not in own] for name, own in found.items()}
    cases = {name: [own[c] for c in contrasts] for name, own in found.items() if not lacking[name]}
    return cases, [f"{name} ({', '.join(missing)})" for name, missing in lacking.items() if missing]


def _choose_endings(
    source: Path, cases: Mapping[str, Sequence[_File]], masks: Sequence[Path], config: VolumeConfig
) -> tuple[set[str], set[str]]:
    """Endings of the masks, and the folders in derivatives/ that hold them; one of each, unless the user chose."""
    found: Counter[tuple[str, str]] = Counter()
    for own in cases.values():
        for path in masks:
            if ending := _ending(path, own[0]):
                found[ending, _folder(path, source)] += 1
    if config.mask_suffixes:
        wanted = {key for key in found if key[0] in config.mask_suffixes}
    else:
        wanted = {key for key in found if _USUAL_MASK.fullmatch(key[0])}
    endings, folders = {ending for ending, _ in wanted}, {folder for _, folder in wanted}
    known = ", ".join(f"{ending} ({folder}/, {count})" for (ending, folder), count in sorted(found.items()))
    if found and not wanted:
        asked = "--mask-suffix names none of them" if config.mask_suffixes else "choose with --mask-suffix"
        raise DataError(f"{source}: masks end with {known}; {asked}")
    if len(folders) > 1 or (len(endings) > 1 and not config.mask_suffixes):
        raise DataError(f"{source}: has several kinds of masks, {known}; choose with --mask-suffix, or move the others")
    return endings, folders


def _folder(mask: Path, source: Path) -> str:
    """Name of the folder in derivatives/ that holds a mask."""
    return mask.relative_to(source).parts[1]


def _ending(mask: Path, image: _File) -> str:
    """Ending of a mask's name after its image's name, with or without the contrast; "" if it is not its mask."""
    stem = file_stem(mask)
    name = f"{image.base}_{image.contrast}"
    if stem.startswith(f"{name}_"):
        return stem[len(name) :]
    rest = stem[len(image.base) :]
    # BIDS names masks without the contrast, too: sub-01_label-lesion_dseg.
    return rest if stem.startswith(f"{image.base}_") and _USUAL_MASK.fullmatch(rest) else ""
