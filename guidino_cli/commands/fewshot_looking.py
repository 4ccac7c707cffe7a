"""Features of labelled and unlabelled images, or of slices of volumes, for `guidino fewshot`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from guidino_cli.commands.fewshot_inputs import FewShotInputs
from guidino_cli.commands.fewshot_volumes import UnlabelledVolume
from guidino_cli.config import DataSettings
from guidino_cli.data.cases import IGNORED, read_pair
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing, to_stored_grid
from guidino_cli.data.volumes.reading import read_volume
from guidino_cli.data.volumes.stored import StoredArray, open_array
from guidino_cli.engine.fewshot.images import LabelledImage, SeenImage, see, see_file
from guidino_cli.engine.fewshot.slices import VolumeLabels, see_labelled_slice, see_slice, spread
from guidino_cli.errors import DataError
from guidino_cli.models.composed import Model
from guidino_cli.preparation.options import VolumeConfig
from guidino_cli.progress import join_first, log_warning, track
from guidino_cli.types import ChannelStatistics


@dataclass(frozen=True)
class Looked:
    """Features of the labelled and unlabelled cases.

    Attributes:
        labelled: Images, or slices.
        unlabelled: Likewise.
        sources: Files of the unlabelled ones.
        areas: Share of each foreground class in the labelled volumes; None for images.
        slices: Places of the labelled slices of each volume, by its id; {} for images.
    """

    labelled: list[LabelledImage]
    unlabelled: list[SeenImage]
    sources: list[Path]
    areas: list[float] | None = None
    slices: dict[str, list[int]] = field(default_factory=dict)


def look_at_images(model: Model, inputs: FewShotInputs, data: DataSettings) -> Looked:
    """Read and see the images; unlabelled ones that cannot be read are warned of.

    Raises:
        DataError: Labels that cannot be used, or lack a class.
    """
    labelled, classes = [], len(inputs.manifest.classes)
    for case in track(inputs.labelled, total=len(inputs.labelled), description="labelled"):
        pixels, labels = read_pair(case, num_classes=classes)
        labelled.append(LabelledImage(see(model, pixels, data), labels))
    counts = [np.bincount(item.labels[item.labels != IGNORED], minlength=classes) for item in labelled]
    require_regions(inputs, np.array(counts))
    unlabelled: list[SeenImage] = []
    sources = []
    for path in track(inputs.unlabelled, total=len(inputs.unlabelled), description="unlabelled"):
        try:
            unlabelled.append(see_file(model, path, data))
        except DataError as error:
            log_warning(f"{error}; left out")
            continue
        sources.append(path)
    return Looked(labelled, unlabelled, sources)


def look_at_volumes(
    model: Model,
    inputs: FewShotInputs,
    data: DataSettings,
    preprocessing: VolumePreprocessing,
    *,
    reading: VolumeConfig,
    slices: int,
) -> Looked:
    """Read volumes and see some of their slices; unlabelled volumes that cannot be read are warned of.

    Args:
        model: Its backbone sees them.
        inputs: Volumes.
        data: Settings.
        preprocessing: Maps intensities and names the axis of the slices.
        reading: How files of unlabelled volumes are read.
        slices: Approximate number of labelled slices to use, equally many of each volume, and of unlabelled slices.

    Raises:
        DataError: Labels that cannot be used, or lack a class.
    """
    classes = len(inputs.manifest.classes)
    found = [VolumeLabels.of(case, preprocessing, num_classes=classes) for case in inputs.labelled]
    for item in found:
        if not len(item.labelled):
            raise DataError(f"{inputs.source}: no voxel of {item.name} counts, all have the ignore label; leave it out")
    require_regions(inputs, np.array([item.counts.sum(axis=0) for item in found]))
    _warn_of_single_slices(found)
    chosen = [item.choose(max(1, slices // len(found))) for item in found]
    wanted = [(case, place) for case, places in zip(inputs.labelled, chosen, strict=True) for place in places]
    labelled = [
        see_labelled_slice(model, case, place, preprocessing, data)
        for case, place in track(wanted, total=len(wanted), description="labelled slices")
    ]
    unlabelled: list[SeenImage] = []
    sources = []
    each = max(1, slices // max(1, len(inputs.volumes)))
    for volume in track(inputs.volumes, total=len(inputs.volumes), description="unlabelled volumes"):
        try:
            values, statistics = _read(volume, preprocessing, reading)
        except DataError as error:
            log_warning(f"{error}; left out")
            continue
        for place in spread(range(values.shape[1 + preprocessing.slice_axis]), each):
            unlabelled.append(see_slice(model, values, statistics, place, preprocessing, data))
        sources.append(volume.path)
    areas = np.mean([item.area for item in found], axis=0)
    places = {item.name: own for item, own in zip(found, chosen, strict=True)}
    return Looked(labelled, unlabelled, sources, [float(area) for area in areas], places)


def _read(
    volume: UnlabelledVolume, preprocessing: VolumePreprocessing, reading: VolumeConfig
) -> tuple[StoredArray, Sequence[ChannelStatistics]]:
    """Values (C, Z, Y, X) on the stored grid, and the statistics of each channel."""
    if volume.stored is not None:
        return open_array(volume.stored.image), volume.stored.statistics
    found = read_volume(
        volume.sources,
        channels=len(preprocessing.channels),
        orientation=reading.orientation,
        ignore_headers=reading.ignore_headers,
        onto=preprocessing.onto,
    )
    stored = to_stored_grid(found, preprocessing.spacing_mm)
    return stored.values, stored.statistics


def _warn_of_single_slices(found: Sequence[VolumeLabels]) -> None:
    """Warn of objects that appear on single slices only: were the others left unlabelled?"""
    for item in found:
        places = item.labelled[item.counts[item.labelled, 1:].sum(axis=1) > 0]
        if len(places) > 1 and np.diff(places).min() > 1 and len(places) < len(item.labelled):
            log_warning(
                f"{item.name}: has foreground on {len(places)} slices, no two of them neighbours; if the others are "
                "not labelled, give them a value of their own and name it: --ignore-label 255"
            )


def require_regions(inputs: FewShotInputs, found: np.ndarray) -> None:
    """Require pixels inside and outside of every class, and name labels that lack a class.

    Args:
        inputs: With the labelled cases.
        found: (N, K) pixels of each class in each of them.

    Raises:
        DataError: A class that no label has, or that fills them all.
    """
    names, count, noun = inputs.manifest.classes, len(found), inputs.noun
    unit = "voxel" if inputs.manifest.is_volumes else "pixel"
    shown = join_first([case.id for case in inputs.labelled], limit=3)
    if not found[:, 1:].any():
        raise DataError(
            f"{inputs.source}: no labelled {noun} has foreground ({shown}); label {noun}s that show the object"
        )
    if not found[:, 0].any() and len(names) == 2:
        raise DataError(
            f"{inputs.source}: all labelled {noun}s are {names[1]} throughout ({shown}); label {noun}s that show the "
            "background too, or name the values: --classes '0=background,255=object'"
        )
    for index, name in enumerate(names[1:], start=1):
        has = found[:, index] > 0
        if not has.any():
            raise DataError(
                f"{inputs.source}: no labelled {noun} has a {unit} of {name} ({shown}); label one that has, or leave "
                "the class out"
            )
        if not (found.sum(axis=1) > found[:, index]).any():
            raise DataError(f"{inputs.source}: all labelled {noun}s are {name} throughout ({shown}); label others too")
        if not has.all():
            missing = [case.id for case, is_there in zip(inputs.labelled, has, strict=True) if not is_there]
            teach = (
                "teach what it is not, and have no say in its threshold"
                if len(missing) > 1
                else ("teaches what it is not, and has no say in its threshold")
            )
            log_warning(
                f"{len(missing)} of {count} labelled {noun}s without {name} ({join_first(missing, limit=3)}): {teach}"
            )
