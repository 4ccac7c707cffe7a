"""Volumes whose guides are drawn: prepared cases, or files as they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from guidino_cli.commands.prediction.volume_inputs import find_volume_jobs
from guidino_cli.data.manifest import is_prepared, load_manifest
from guidino_cli.options.prediction import PredictOptions, VisualizeOptions
from guidino_cli.types import StoredVolume, VolumeSource


@dataclass(frozen=True)
class VolumeInput:
    """One volume.

    Attributes:
        name: Title and stem of its figure.
        path: File of its first channel, or its DICOM folder.
        sources: Its channels.
        problem: Why it cannot be drawn, "" if nothing is known.
        stored: Its arrays in a prepared folder; None for files as they are.
        ignore_label: Value in the stored labels of voxels that do not count.
    """

    name: str
    path: Path
    sources: tuple[VolumeSource, ...]
    problem: str = ""
    stored: StoredVolume | None = None
    ignore_label: int | None = None


def list_input_volumes(
    places: Sequence[Path], options: VisualizeOptions, *, channels: Sequence[str]
) -> list[VolumeInput]:
    """List the volumes that `predict` would take of the same places; see `find_volume_jobs` for the errors.

    Args:
        places: Files, folders, prepared data folders or DICOM folders.
        options: Split and series.
        channels: Names of the channels that the run was trained on.
    """
    jobs = find_volume_jobs(places, channels, PredictOptions(split=options.split, series=options.series))
    manifests = [load_manifest(place) for place in places if is_prepared(place)]
    cases = {(case.id, str(case.image)): case for manifest in manifests for case in manifest.cases}
    inputs = []
    for job in jobs:
        case = cases.get((job.name, job.image))
        stored, ignore_label = (None, None) if case is None else (case.volume, case.ignore_label)
        inputs.append(VolumeInput(job.name, job.sources[0].path, job.sources, job.problem, stored, ignore_label))
    return inputs
