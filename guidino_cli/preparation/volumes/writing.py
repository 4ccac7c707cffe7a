"""Write what belongs to a prepared data set of volumes as a whole: manifest, report, contact sheet."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from guidino_cli import __version__
from guidino_cli.data.cases import IGNORED
from guidino_cli.data.manifest import Manifest, save_manifest
from guidino_cli.data.volumes.stored import open_array
from guidino_cli.files import write_atomically, write_text
from guidino_cli.preparation.options import PreparationConfig
from guidino_cli.preparation.report import count_by_split
from guidino_cli.preparation.types import DiscoveredDataset
from guidino_cli.preparation.volumes.labels import LabelTable
from guidino_cli.preparation.volumes.report import VolumeSummary, fingerprint, to_markdown
from guidino_cli.preparation.writing import choose_tiles
from guidino_cli.progress import track
from guidino_cli.types import Case, ChannelStatistics

_TILES = 24


def write_volumes(
    summary: VolumeSummary, dataset: DiscoveredDataset, table: LabelTable, config: PreparationConfig, folder: Path
) -> None:
    """Write cases.json, report.md and contact_sheet.png into a folder that holds the arrays and masks."""
    manifest = Manifest(
        config.name,
        list(summary.classes),
        list(summary.cases),
        _source_record(summary, dataset, table, config),
        None if table.ignored is None else IGNORED,
        channels=tuple(summary.channels),
        spacing_mm=tuple(summary.spacing_mm),
        statistics=tuple(summary.statistics),
    )
    save_manifest(manifest, folder)
    write_text(folder / "report.md", to_markdown(summary))
    write_contact_sheet(summary, folder)


def write_contact_sheet(summary: VolumeSummary, folder: Path) -> None:
    """Write `contact_sheet.png`: three planes of up to 24 volumes."""
    from guidino_cli.plots.volumes import VolumeTile, describe_spacing, view_volume, volume_contact_sheet

    def tile(case: Case) -> VolumeTile:
        volume = case.volume
        assert volume is not None
        assert volume.labels is not None
        first = volume.statistics[0]
        labels = np.asarray(open_array(volume.labels)[:])
        view = view_volume(
            case.id,
            open_array(volume.image)[0],
            volume.spacing_mm,
            truth=np.where(labels == IGNORED, 0, labels) if case.ignore_label is not None else labels,
            normalize=lambda values: _to_unit(values, first),
        )
        view = replace(view, oriented=bool(volume.orientation))
        share = f"{100 * (case.foreground or 0):.2g} % foreground"
        return VolumeTile(view, case.id, f"{case.split}, {share}; {describe_spacing(volume.spacing_mm)}")

    chosen = choose_tiles(summary.cases, _TILES)
    counts = ", ".join(f"{count} {part}" for part, count in count_by_split(summary.cases).items() if count)
    shown = f"{len(chosen)} of {len(summary.cases)} volumes" if len(chosen) < len(summary.cases) else "all volumes"
    channel = f"; channel {summary.channels[0]}" if len(summary.channels) > 1 else ""
    heading = f"{summary.name} ({counts})\n{shown}, smallest to largest foreground of each part{channel}"
    tiles = [tile(case) for case in track(chosen, total=len(chosen), description="contact sheet")]
    figure = volume_contact_sheet(tiles, heading=heading, classes=summary.classes)
    write_atomically(folder / "contact_sheet.png", lambda temporary: figure.savefig(temporary))


def _to_unit(values: np.ndarray, statistics: ChannelStatistics) -> np.ndarray:
    low, high = statistics.percentile_00_5, statistics.percentile_99_5
    return np.asarray(((values.astype(np.float32) - np.float32(low)) / np.float32(max(high - low, 1e-6))).clip(0, 1))


def _source_record(
    summary: VolumeSummary, dataset: DiscoveredDataset, table: LabelTable, config: PreparationConfig
) -> dict[str, object]:
    return {
        "guidino": __version__,
        "layout": dataset.layout,
        "layout_evidence": dataset.evidence,
        "mask_rule": table.why,
        "mask_values": None if table.values is None else {str(value): index for value, index in table.values.items()},
        "split_rule": summary.split_rule,
        "seed": config.options.seed,
        "group_by": config.options.group_by,
        "counts": count_by_split(summary.cases),
        "spacing_rule": summary.spacing_rule,
        "fingerprint": fingerprint(list(summary.facts.values()), summary.channels),
        "duplicates": [list(group) for group in summary.duplicates],
        "warnings": list(summary.warnings),
        "notes": list(summary.notes),
    }
