"""Detect folders of DICOM series, with masks as DICOM SEG or NIfTI files."""

import os
from collections.abc import Sequence
from pathlib import Path

from guidino_cli.data.volumes.dicom.datasets import looks_like_dicom
from guidino_cli.data.volumes.dicom.segments import read_referenced_series, read_segment_names
from guidino_cli.data.volumes.dicom.series import SERIES_HEADINGS, Series, find_series, series_row
from guidino_cli.data.volumes.reading import is_volume_file
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import file_stem
from guidino_cli.preparation.options import VolumeConfig
from guidino_cli.preparation.types import DiscoveredDataset, ImageMaskPair
from guidino_cli.preparation.volumes.descriptions import NamedLabels
from guidino_cli.preparation.volumes.files import mask_owner
from guidino_cli.progress import join_first, log_info, pluralize

_BY_NAME = "modality or description; they are listed above"


def has_dicom(source: Path) -> bool:
    """Whether a folder holds a DICOM file at any depth."""
    return source.is_dir() and any(
        looks_like_dicom(Path(place) / name) for place, _, names in os.walk(source) for name in sorted(names)
    )


def detect_dicom(source: Path, config: VolumeConfig) -> DiscoveredDataset | None:
    """Detect DICOM series and their masks; a case is a series, or one series of each channel of a patient.

    Ids are the keys of the first series, so that no name of a patient is written.

    Raises:
        DataError: No series can be used, or several could be meant.
        DependencyError: pydicom is not installed.
    """
    if not has_dicom(source):
        return None
    folder = find_series(source)
    usable = [series for series in folder.series if not series.problem]
    notes = [
        f"series {series.key} ({series.title or series.modality}) is no volume: {series.problem}"
        for series in folder.series
        if series.problem
    ]
    notes += [f"{path.name} cannot be read: {reason}" for path, reason in folder.unreadable]
    if not usable:
        raise DataError(f"{source}: no DICOM series is a volume: {join_first(notes, '; ', limit=3)}")
    segmentations = _by_series(folder.segmentations)
    cases = _choose(source, usable, segmentations, config)
    pairs, unmatched = [], []
    for series in cases:
        masks = segmentations.get(series[0].uid, ()) or _find_masks_beside(source, series[0], usable, config)
        if masks:
            pairs.append(_make_pair(series, masks))
        else:
            unmatched.append(series[0].folder)
    labels = _named_segments([path for pair in pairs for path in pair.masks if path in folder.segmentations])
    kinds = ", ".join(sorted({series.modality or "?" for case in cases for series in case}))
    return DiscoveredDataset(
        "dicom",
        f"{pluralize(len(cases), 'case')} of {pluralize(len(folder.series), 'series', 'series')} ({kinds})",
        sorted(pairs, key=lambda pair: pair.id),
        unmatched,
        notes=notes,
        is_volumes=True,
        channels=_name_channels(cases, config),
        class_names=None if labels is None else labels.names,
        label_values=None if labels is None else labels.values,
    )


def _make_pair(series: Sequence[Series], masks: Sequence[Path]) -> ImageMaskPair:
    first = series[0]
    return ImageMaskPair(
        first.key,
        tuple(item.folder for item in series),
        tuple(masks),
        group=first.patient,
        series=tuple(item.key for item in series),
    )


def _by_series(segmentations: Sequence[Path]) -> dict[str, tuple[Path, ...]]:
    """SEG files by the UID of the series that they belong to."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in segmentations:
        uid = read_referenced_series(path)
        if uid:
            found[uid] = (*found.get(uid, ()), path)
    return found


def _choose(
    source: Path, usable: Sequence[Series], segmentations: dict[str, tuple[Path, ...]], config: VolumeConfig
) -> list[tuple[Series, ...]]:
    """Series of each case, one for each channel."""
    wanted = [series for series in usable if config.series is None or _is_meant(series, config.series)]
    if not wanted:
        _list_series(usable)
        raise DataError(f"{source}: no series is {config.series} by its key or description; they are listed above")
    if len(config.channels) > 1:
        return _choose_channels(source, wanted, config.channels)
    if config.channels and config.series is None:
        # Beside --series, a single name is a mere name.
        named = [series for series in wanted if _is_channel(series, config.channels[0])]
        if not named:
            _list_series(usable)
            raise DataError(f"{source}: no series is {config.channels[0]} by {_BY_NAME}")
        wanted = named
    drawn = [
        series for series in wanted if series.uid in segmentations or _find_masks_beside(source, series, usable, config)
    ]
    chosen = drawn or wanted
    patients = [series.patient for series in chosen]
    if not drawn and config.series is None and len(set(patients)) < len(patients):
        _list_series(usable)
        raise DataError(
            f"{source}: holds {len(chosen)} series of {pluralize(len(set(patients)), 'patient')}, listed above; choose "
            "with --series (a part of the description, or the key) or --channels (modality or description of each)"
        )
    return [(series,) for series in chosen]


def _choose_channels(source: Path, usable: Sequence[Series], channels: Sequence[str]) -> list[tuple[Series, ...]]:
    """One series for each channel, of each study of a patient."""
    studies: dict[tuple[str, str], list[Series]] = {}
    for series in usable:
        studies.setdefault((series.patient, series.headers[0].study_uid), []).append(series)
    cases = []
    for (patient, _), own in studies.items():
        fits = [[series for series in own if _is_channel(series, name)] for name in channels]
        if not any(fits):
            continue
        wrong = next((number for number, found in enumerate(fits) if len(found) != 1), None)
        if wrong is not None:
            _list_series(own)
            keys = join_first([series.key for series in fits[wrong]]) or "none"
            count = pluralize(len(fits[wrong]), "series", "series")
            raise DataError(
                f"{source}: a study of patient {patient} has {count} for the channel {channels[wrong]} ({keys}), "
                "expected one; name channels by modality, or by a part of the description that only one series has"
            )
        cases.append(tuple(found[0] for found in fits))
    if not cases:
        _list_series(usable)
        raise DataError(f"{source}: no series is {' or '.join(channels)} by {_BY_NAME}")
    return cases


def _is_meant(series: Series, text: str) -> bool:
    return text == series.key or text.casefold() in series.title.casefold()


def _is_channel(series: Series, name: str) -> bool:
    """Whether a channel is named by the modality of a series, or else by a part of its description."""
    is_modality = series.modality.casefold() == name.casefold()
    return is_modality or (name.casefold() in series.title.casefold() and len(name) > 1)


def _name_channels(cases: Sequence[tuple[Series, ...]], config: VolumeConfig) -> tuple[str, ...]:
    if config.channels:
        count = len(cases[0])
        if len(config.channels) != count:
            raise ConfigError(f"--channels {','.join(config.channels)}: names {len(config.channels)}, expected {count}")
        return config.channels
    modalities = {series.modality or "image" for (series, *_) in cases}
    if len(modalities) > 1:
        raise DataError(f"cases are {' and '.join(sorted(modalities))}; choose with --channels or --series")
    return (modalities.pop(),)


def _find_masks_beside(
    source: Path, series: Series, usable: Sequence[Series], config: VolumeConfig
) -> tuple[Path, ...]:
    """Label volumes of a series: named by its key or its folder, or the only one in its folder or beside it.

    The folder of a patient may hold the folder of the series and the mask; a folder with several series does not say
    which of them a mask belongs to.
    """
    names = {series.key, series.folder.name}
    folder = series.folder
    while folder == source or folder.is_relative_to(source):
        files = [path for path in sorted(folder.iterdir()) if is_volume_file(path)]
        named = [path for path in files if {file_stem(path), mask_owner(file_stem(path), config.mask_suffixes)} & names]
        if named:
            return tuple(named)
        below = [other for other in usable if other.folder == folder or other.folder.is_relative_to(folder)]
        if files and len(below) == 1:
            return tuple(files)
        folder = folder.parent
    return ()


def _is_named(path: Path, names: set[str], suffixes: Sequence[str]) -> bool:
    stem = file_stem(path)
    return stem in names or mask_owner(stem, suffixes) in names


def _named_segments(paths: Sequence[Path]) -> NamedLabels | None:
    """Classes by the labels of segments, which must have one number in all files; None without a SEG."""
    names: dict[int, str] = {}
    for path in paths:
        for number, name in read_segment_names(path).items():
            if names.setdefault(number, name) != name:
                raise DataError(
                    f"{path}: segment {number} is {name}, in another file {names[number]}; number the segments alike "
                    "in all files"
                )
    if not names:
        return None
    ordered = dict(sorted(names.items()))
    if len(set(ordered.values())) < len(ordered):
        ordered = {number: f"{name} {number}" for number, name in ordered.items()}
    classes = ("background", *ordered.values())
    return NamedLabels(classes, {0: 0} | {number: index for index, number in enumerate(ordered, start=1)})


def _list_series(found: Sequence[Series]) -> None:
    """Print a table of series on stderr."""
    rows = [SERIES_HEADINGS, *(series_row(series) for series in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(SERIES_HEADINGS))]
    for row in rows:
        log_info("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
