"""Volumes of `guidino fewshot`: labelled ones of two folders, and those without labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from guidino_cli.commands.prediction.volume_inputs import find_volume_jobs
from guidino_cli.data.images import is_image
from guidino_cli.data.volumes.reading import is_volume_file
from guidino_cli.data.volumes.slices import parse_orientation
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import file_stem
from guidino_cli.options.fewshot import FewShotOptions
from guidino_cli.options.prediction import PredictOptions
from guidino_cli.preparation.options import VolumeConfig
from guidino_cli.preparation.types import DiscoveredDataset, MatchedFolders, merge_folders
from guidino_cli.preparation.volumes.files import VolumeMatches, find_volumes, group_channels, match_volumes
from guidino_cli.progress import join_first, log_warning
from guidino_cli.types import Case, StoredVolume, VolumeSource


@dataclass(frozen=True)
class UnlabelledVolume:
    """A volume to look at for the thresholds.

    Attributes:
        path: File of its first channel, for messages.
        sources: Its channels.
        stored: Its arrays in a prepared folder; None for files as they are.
    """

    path: Path
    sources: tuple[VolumeSource, ...]
    stored: StoredVolume | None = None

    @classmethod
    def of_case(cls, case: Case) -> "UnlabelledVolume":
        """A volume of a prepared folder."""
        if case.volume is None:
            raise ValueError(f"case {case.id} is no volume")
        return cls(case.image, case.volume.sources, case.volume)


def holds_volumes(place: Path) -> bool:
    """Whether a path is a file with a volume, or a folder that directly holds some."""
    return bool(find_volumes(place)) if place.is_dir() else is_volume_file(place) and place.is_file()


def volume_config(options: FewShotOptions) -> VolumeConfig:
    """Settings for reading volumes."""
    names = () if options.channels is None else tuple(name.strip() for name in options.channels.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ConfigError(f"--channels '{options.channels}': a name is empty or given twice")
    return VolumeConfig(
        orientation=None if options.orientation is None else parse_orientation(options.orientation),
        ignore_headers=options.ignore_headers,
        channels=names,
    )


def match_volume_folders(images: Path, masks: Path, config: VolumeConfig) -> tuple[DiscoveredDataset, VolumeMatches]:
    """Match volumes and label volumes by name.

    Args:
        images: Folder of volumes, or one volume.
        masks: Folder of label volumes of some of them, or one.
        config: Names of the channels.

    Raises:
        DataError: Pictures among them, label volumes without a volume, several of one, or missing channels.
    """
    files, labels = _list(images, masks), _list(masks, images)
    found = match_volumes(files, labels, channels=config.channels)
    matches = found.matches
    if images.is_file() and masks.is_file():
        pair = (file_stem(images), images, (masks,))
        matches = replace(matches, pairs=[pair], unmatched_images=[], unmatched_masks=[], collisions=[])
        found = VolumeMatches([(file_stem(images), (images,), (masks,))], matches, [])
    if found.incomplete:
        raise DataError(f"{images}: {join_first(found.incomplete, limit=3)} not there; add the files of these channels")
    if not matches.pairs and not matches.collisions:
        raise DataError(
            f"{masks}: no mask is named like a volume of {images} (found {labels[0].name}, expected a name such as "
            f"{file_stem(files[0])}.nii.gz or {file_stem(files[0])}_seg.nii.gz)"
        )
    dataset = merge_folders("nifti", f"volumes {images} and {masks}; {matches.rule}", [MatchedFolders(matches)])
    channels = {paths[0]: paths for _, paths, _ in found.pairs}
    dataset = replace(
        dataset,
        pairs=[replace(pair, images=channels[pair.images[0]]) for pair in dataset.pairs],
        is_volumes=True,
        channels=config.channels or ("image",),
        needs_merging=False,
    )
    return dataset, found


def other_volumes(images: Path, config: VolumeConfig, used: Sequence[Path]) -> list[UnlabelledVolume]:
    """The volumes of a folder that are not labelled.

    Args:
        images: The folder, or one volume.
        config: Names of the channels.
        used: Files of the first channels of labelled volumes.
    """
    groups = group_channels(find_volumes(images) if images.is_dir() else [], config.channels)
    return [
        UnlabelledVolume(paths[0], tuple(VolumeSource(path) for path in paths))
        for paths in groups.cases.values()
        if paths[0] not in used
    ]


def find_unlabelled_volumes(folder: Path, channels: Sequence[str]) -> list[UnlabelledVolume]:
    """Volumes directly in a folder, or its DICOM series, by the rules of `predict`."""
    found = []
    for job in find_volume_jobs([folder], channels, PredictOptions(split="train")):
        if job.problem:
            log_warning(f"{job.image}: {job.problem}; left out")
        else:
            found.append(UnlabelledVolume(job.sources[0].path, job.sources))
    return found


def refuse_options_of_images(options: FewShotOptions) -> None:
    """`ConfigError` for an option that means nothing for volumes."""
    _refuse({"exif": options.exif is not None, "merge-masks": options.merge_masks}, meant="images", found="volumes")


def refuse_options_of_volumes(options: FewShotOptions) -> None:
    """`ConfigError` for an option that means nothing for images."""
    given = {
        "channels": options.channels is not None,
        "orientation": options.orientation is not None,
        "ignore-headers": options.ignore_headers,
        "slices": options.slices != FewShotOptions.slices,
    }
    _refuse(given, meant="volumes", found="images")


def _refuse(given: dict[str, bool], *, meant: str, found: str) -> None:
    for name, is_given in given.items():
        if is_given:
            raise ConfigError(f"--{name}: is for {meant}, but these are {found}; leave it out")


def _list(place: Path, other: Path) -> list[Path]:
    files = [place] if place.is_file() else find_volumes(place) if place.is_dir() else []
    if files and all(is_volume_file(path) for path in files):
        return files
    if not place.exists():
        raise DataError(f"{place}: no such folder; give volumes and their label volumes")
    pictures = [place] if place.is_file() else [path for path in place.iterdir() if is_image(path)]
    what = (
        f"holds images ({pictures[0].name})"
        if pictures
        else "no volume directly in this folder (DICOM series: guidino prepare first)"
    )
    raise DataError(f"{place}: {what}, but {other} holds volumes; give volumes and their label volumes")
