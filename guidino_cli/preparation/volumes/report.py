"""Report of a prepared data set of volumes: report.md, and the numbers of the fingerprint."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from guidino_cli.preparation.report import (
    DatasetSummary,
    bullet_list,
    cases_table,
    describe_duplicates,
    overview,
    values_table,
)
from guidino_cli.preparation.volumes.staging import StagedVolume
from guidino_cli.types import ChannelStatistics

_QUANTILES = {"smallest": 0, "10 %": 10, "median": 50, "90 %": 90, "largest": 100}


@dataclass(frozen=True)
class VolumeSummary(DatasetSummary):
    """Contents of the report and of the summary on the console.

    Attributes:
        facts: Case id -> what is known of the volume.
        channels: Names of the channels.
        spacing_mm: Target along Z, Y, X.
        statistics: Statistics of the training foreground, one per channel; () where nothing was written.
        spacing_rule: The target in words.
    """

    facts: Mapping[str, StagedVolume]
    channels: Sequence[str]
    spacing_mm: Sequence[float | None]
    statistics: Sequence[ChannelStatistics]
    spacing_rule: str

    @property
    def is_pictures(self) -> bool:
        """Whether they are pictures, stored with all their channels and bits."""
        return all(facts.grid.is_picture for facts in self.facts.values())


def format_volume_sizes(summary: VolumeSummary) -> str:
    """Sizes (x, y, z) and spacings of all volumes: `33x48x24 to 43x59x47 voxels of 1 x 1 x 1 mm`."""
    shapes = sorted({facts.grid.shape for facts in summary.facts.values()}, key=np.prod)
    spacings = sorted({_round(facts.grid.spacing_mm) for facts in summary.facts.values()}, key=np.prod)
    sizes = _size(shapes[0]) if len(shapes) == 1 else f"{_size(shapes[0])} to {_size(shapes[-1])}"
    if summary.is_pictures:
        return f"{sizes} px (width x height x 1)"
    edges = _mm(spacings[0]) if len(spacings) == 1 else f"{_mm(spacings[0])} to {_mm(spacings[-1])}"
    return f"{sizes} voxels of {edges} mm (x, y, z)"


def fingerprint(facts: Sequence[StagedVolume], channels: Sequence[str]) -> dict[str, Any]:
    """Quantiles over the volumes of size, spacing and intensity, along Z, Y, X; for cases.json."""
    shapes = np.array([item.grid.shape for item in facts])
    spacings = np.array([item.grid.spacing_mm for item in facts])
    medians = np.array([[own.median for own in item.statistics] for item in facts])
    result: dict[str, Any] = {
        name: {
            "size_zyx": [float(f"{value:.6g}") for value in np.percentile(shapes, share, axis=0)],
            "spacing_mm_zyx": [float(f"{value:.6g}") for value in np.percentile(spacings, share, axis=0)],
            "median_intensity": [float(f"{value:.6g}") for value in np.percentile(medians, share, axis=0)],
        }
        for name, share in _QUANTILES.items()
    }
    return {"channels": list(channels), "quantiles": result}


def to_markdown(summary: VolumeSummary) -> str:
    """Format the report as Markdown."""
    sections = [
        f"# {summary.name}",
        f"![Three planes of a sample of the volumes, masks outlined](contact_sheet.png)\n\n{_overview(summary)}",
        f"## Warnings\n\n{bullet_list(summary.warnings)}",
        f"## Classes\n\n{cases_table(summary, unit='voxels')}",
        f"## Sizes, spacings and intensities\n\n{_fingerprint_table(summary)}",
        f"## Intensities of the training foreground\n\n{_statistics_table(summary)}",
        f"## Volumes\n\n{_volumes_table(summary)}",
        f"## Values in the masks as they came\n\n{summary.mask_rule}.\n\n{values_table(summary, unit='voxels')}",
        f"## Volumes that are equal files\n\n{_duplicates(summary)}",
        f"## Notes\n\n{bullet_list(summary.notes)}",
    ]
    return "\n\n".join(sections) + "\n"


def _overview(summary: VolumeSummary) -> str:
    more = [f"channels: {', '.join(summary.channels)}", f"spacing of the stored volumes: {summary.spacing_rule}"]
    return overview(summary, noun="volume", sizes=format_volume_sizes(summary), more=more)


def _fingerprint_table(summary: VolumeSummary) -> str:
    quantiles = fingerprint(list(summary.facts.values()), summary.channels)["quantiles"]
    names = "".join(f" median {name} |" for name in summary.channels)
    lines = [
        f"| | size (x, y, z) | spacing in mm (x, y, z) |{names}",
        "|---|---:|---:|" + "---:|" * len(summary.channels),
    ]
    for name, row in quantiles.items():
        size, spacing = (" x ".join(f"{v:.4g}" for v in row[key][::-1]) for key in ("size_zyx", "spacing_mm_zyx"))
        medians = "".join(f" {value:.4g} |" for value in row["median_intensity"])
        lines.append(f"| {name} | {size} | {spacing} |{medians}")
    return "\n".join([*lines, "", "Each axis and each number for itself, over the volumes as they came."])


def _statistics_table(summary: VolumeSummary) -> str:
    if not summary.statistics:
        return "Not measured: nothing was written."
    names = ("mean", "std", "minimum", "percentile_00_5", "median", "percentile_99_5", "maximum")
    heads = ("mean", "std", "minimum", "0.5 %", "median", "99.5 %", "maximum")
    lines = [f"| channel | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for channel, own in zip(summary.channels, summary.statistics, strict=True):
        numbers = asdict(own)
        lines.append(f"| {channel} | {' | '.join(f'{numbers[name]:.5g}' for name in names)} |")
    return "\n".join(lines)


def _volumes_table(summary: VolumeSummary) -> str:
    lines = [
        "| case | part | size (x, y, z) | spacing in mm | axes | range | foreground | notes |",
        "|---|---|---:|---:|---|---:|---:|---|",
    ]
    for case in summary.cases:
        facts = summary.facts[case.id]
        ranges = ", ".join(f"{own.minimum:.5g} to {own.maximum:.5g}" for own in facts.statistics)
        size, spacing = _size(facts.grid.shape), _mm(facts.grid.spacing_mm)
        notes = "; ".join(facts.notes)
        lines.append(
            f"| {case.id} | {case.split} | {size} | {spacing} | {facts.grid.orientation or '?'} | {ranges} | "
            f"{100 * (case.foreground or 0):.3g} % | {notes} |"
        )
    return "\n".join(lines)


def _duplicates(summary: VolumeSummary) -> str:
    return describe_duplicates(summary, none="None found.")


def _size(shape: Sequence[int]) -> str:
    return "x".join(str(side) for side in shape[::-1])


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{side:.4g}" for side in spacing[::-1])


def _round(spacing: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(f"{side:.4g}") for side in spacing)
