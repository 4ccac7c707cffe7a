"""The contact sheet of prepared volumes: three planes of each case with its mask outlined."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from guidino_cli.config import DataSettings
from guidino_cli.data.manifest import Manifest
from guidino_cli.data.volumes.intensities import Intensity
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.data.volumes.stored import open_array
from guidino_cli.files import write_atomically
from guidino_cli.preparation.writing import choose_tiles, sheet_heading
from guidino_cli.types import Case

if TYPE_CHECKING:
    from guidino_cli.plots.volumes import VolumeTile


def write_volume_contact_sheet(manifest: Manifest, folder: Path, *, marks: Mapping[str, str] | None = None) -> None:
    """Write `contact_sheet.png` of volumes that were stored before; three slices of each are read, and its labels.

    Args:
        manifest: Manifest of the prepared data.
        folder: Where to write.
        marks: Case id -> why its mask should be looked at; these cases come first.

    Raises:
        DataError: A stored array is missing or damaged.
    """
    from guidino_cli.plots.volumes import volume_contact_sheet

    marks = marks or {}
    chosen = choose_tiles(manifest.cases, first=list(marks))
    heading = sheet_heading(manifest.name, manifest.cases, len(chosen), some_first=bool(marks))
    if manifest.is_pictures:
        _write_picture_sheet(manifest, chosen, folder, heading=heading, marks=marks)
        return
    if len(manifest.channels) > 1:
        heading += f"; the first of {len(manifest.channels)} channels, {manifest.channels[0]}"
    first = VolumePreprocessing.from_manifest(manifest, DataSettings()).intensities[0]
    tiles = [_tile(case, first, marks.get(case.id, ""), has_instances=manifest.has_instances) for case in chosen]
    figure = volume_contact_sheet(tiles, heading=heading, classes=manifest.classes)
    write_atomically(folder / "contact_sheet.png", figure.savefig)


def _write_picture_sheet(
    manifest: Manifest, cases: Sequence[Case], folder: Path, *, heading: str, marks: Mapping[str, str]
) -> None:
    """The sheet of pictures, as of images: the first three channels as red, green and blue, or the first as grey."""
    from guidino_cli.plots.contact_sheet import Tile, contact_sheet

    preprocessing = VolumePreprocessing.from_manifest(manifest, DataSettings())
    shown = [0, 1, 2] if len(manifest.channels) >= 3 else [0, 0, 0]

    def tile(case: Case) -> Tile:
        volume = case.volume
        assert volume is not None
        assert volume.labels is not None
        values = preprocessing.normalize(np.asarray(open_array(volume.image)[:]), volume.statistics)
        pixels = (255 * values[shown, 0].transpose(1, 2, 0)).round().astype(np.uint8)
        labels = np.asarray(open_array(volume.labels)[0])
        counted = labels if case.ignore_label is None else np.where(labels == case.ignore_label, 0, labels)
        counted = (counted > 0).astype(np.uint8) if manifest.has_instances else counted
        share = "" if case.foreground is None else f", {_percent(case.foreground)} foreground"
        return Tile(pixels, counted, case.id, f"{case.split}{share}", marks.get(case.id, ""))

    figure = contact_sheet([tile(case) for case in cases], heading=heading, classes=manifest.classes)
    write_atomically(folder / "contact_sheet.png", figure.savefig)


def _tile(case: Case, intensity: Intensity, mark: str, *, has_instances: bool = False) -> "VolumeTile":
    from guidino_cli.plots.volumes import VolumeTile, describe_spacing, view_volume

    volume = case.volume
    assert volume is not None

    def normalize(slices: np.ndarray) -> np.ndarray:
        return np.asarray(intensity.normalize(slices[0], volume.statistics[0])[0])

    labels = None if volume.labels is None else open_array(volume.labels)
    if labels is not None and case.ignore_label is not None:
        # What does not count is no class with an outline of its own.
        labels = np.where(labels[:] == case.ignore_label, 0, labels[:])
    if labels is not None and has_instances:
        labels = (np.asarray(labels[:]) > 0).astype(np.uint8)
    view = view_volume(
        case.id,
        open_array(volume.image),
        volume.spacing_mm,
        truth=labels,
        ignore_label=case.ignore_label,
        normalize=normalize,
    )
    share = "" if case.foreground is None else f", {_percent(case.foreground)} foreground"
    return VolumeTile(view, case.id, f"{case.split}{share}; {describe_spacing(volume.spacing_mm)}", mark)


def _percent(share: float) -> str:
    """Percent with a decimal, or two digits of what would be 0.0."""
    return f"{100 * share:.1f} %" if share >= 0.01 or share == 0 else f"{100 * share:.2g} %"
