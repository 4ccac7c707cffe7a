"""Write what belongs to a prepared data set of volumes as a whole: manifest, report, contact sheet."""

from pathlib import Path

from guidino_cli import __version__
from guidino_cli.data.cases import IGNORED
from guidino_cli.data.manifest import Manifest, save_manifest
from guidino_cli.files import write_text
from guidino_cli.preparation.options import PreparationConfig
from guidino_cli.preparation.report import count_by_split
from guidino_cli.preparation.types import DiscoveredDataset
from guidino_cli.preparation.volumes.contact_sheet import write_volume_contact_sheet
from guidino_cli.preparation.volumes.labels import LabelTable
from guidino_cli.preparation.volumes.report import VolumeSummary, fingerprint, to_markdown


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
        has_instances=table.instances is not None,
        onto=config.volumes.onto_position,
    )
    save_manifest(manifest, folder)
    write_text(folder / "report.md", to_markdown(summary))
    write_volume_contact_sheet(manifest, folder)


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
