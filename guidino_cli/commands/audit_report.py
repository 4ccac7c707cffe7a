"""Output of `guidino audit`: a table of the worst masks, the whole list as CSV and JSON, and a contact sheet."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path

from guidino_cli.data.cases import read_truth
from guidino_cli.data.images import read_image
from guidino_cli.data.manifest import Manifest
from guidino_cli.files import write_atomically, write_text
from guidino_cli.preparation.mask_audit import MaskStatistics
from guidino_cli.preparation.mask_ranking import RankedMask
from guidino_cli.progress import pluralize
from guidino_cli.tables import to_csv
from guidino_cli.types import Case

_TILES = 24
_HEADINGS = ["rank", "case", "split", "certain", "agreement", "class", "area", "border", "parts", "reason", "mask"]


@dataclass(frozen=True)
class AuditReport:
    """Result of an audit.

    Attributes:
        manifest: The data set.
        split: Part whose masks were compared, or "all".
        cases: Case id -> case, of those that could be read.
        ranking: Worst first.
        masks: Case id -> statistics of each class.
        shift: One sentence about masks that seem to be shifted by one case, or "".
        failed: Messages about cases that cannot be read.
        backbone: Name and weights, or "" if only masks were compared.
    """

    manifest: Manifest
    split: str
    cases: Mapping[str, Case]
    ranking: Sequence[RankedMask]
    masks: Mapping[str, MaskStatistics]
    shift: str
    failed: Sequence[str]
    backbone: str

    @property
    def tenth(self) -> int:
        """Length of the first tenth of the list, at least one mask."""
        return max(1, round(len(self.ranking) / 10))

    def worst(self, count: int) -> list[tuple[int, RankedMask]]:
        """At most `count` masks with their ranks: the first ones, and up to a quarter with a reason further down."""
        ranked = list(enumerate(self.ranking, start=1))
        with_reasons = [item for item in ranked[count:] if item[1].suspicions][: count // 4]
        return [*ranked[: count - len(with_reasons)], *with_reasons]

    @property
    def backbone_name(self) -> str:
        """Name of the backbone without its weights."""
        return self.backbone.split(":")[0]

    @property
    def remarks(self) -> list[str]:
        """Remarks of `prepare` about the data: folders left out, EXIF tags, duplicates."""
        source = self.manifest.source
        return [str(text) for kind in ("warnings", "notes") for text in source.get(kind, [])]


def print_report(report: AuditReport, *, show: int, out: Path | None, data: Path) -> None:
    """Print the worst masks as a table wrapped to the terminal, and what to do next."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout, highlight=False, markup=False)
    certain = sum(item.is_certain for item in report.ranking)
    part = "all parts" if report.split == "all" else f"the {report.split} part"
    how = f"with features of {report.backbone_name}" if report.backbone else "with each other only"
    console.print(f"{pluralize(len(report.ranking), 'mask')} of {part} compared {how}; {certain} certainly wrong")
    if report.shift:
        console.print(report.shift)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("rank", justify="right")
    table.add_column("case", overflow="fold")
    table.add_column("agreement", justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for rank, item in report.worst(show):
        if not item.suspicions and (rank > report.tenth or isnan(item.agreement)):
            continue
        value = "-" if isnan(item.agreement) else f"{item.agreement:.2f}"
        table.add_row(str(rank), item.case, value, item.reason)
    console.print(table)
    if report.backbone:
        console.print("agreement: AUROC of scores learnt from the other images, 1 at best, 0.5 at chance")
    for text in report.remarks:
        console.print(f"remark of prepare: {text}")
    if out is None:
        where = f"`guidino audit {shlex.quote(str(data))} -o REPORT` writes the whole list and a contact sheet"
    else:
        where = f"written: {out}: audit.csv, audit.json, contact_sheet.png"
    console.print(where, soft_wrap=True)
    tenth = "mask" if report.tenth == 1 else f"{report.tenth} masks"
    console.print(f"review the first {tenth} of the list, a tenth; masks that are only too small are not found")


def write_report(report: AuditReport, folder: Path) -> None:
    """Write `audit.csv`, `audit.json` and `contact_sheet.png`."""
    write_text(folder / "audit.csv", to_csv(_HEADINGS, [_csv_row(report, *item) for item in _ranked(report)]))
    content = {
        "format": 1,
        "data": report.manifest.name,
        "split": report.split,
        "classes": list(report.manifest.classes),
        "backbone": report.backbone or None,
        "shift": report.shift or None,
        "remarks": report.remarks,
        "failed": list(report.failed),
        "masks": [_json_row(report, *item) for item in _ranked(report)],
    }
    write_text(folder / "audit.json", json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    _write_contact_sheet(report, folder)


def _ranked(report: AuditReport) -> list[tuple[int, RankedMask]]:
    return list(enumerate(report.ranking, start=1))


def _json_row(report: AuditReport, rank: int, item: RankedMask) -> dict[str, object]:
    case, background = report.cases[item.case], report.masks[item.case][0]
    return {
        "rank": rank,
        "case": item.case,
        "split": case.split,
        "certain": item.is_certain,
        "agreement": None if isnan(item.agreement) else round(item.agreement, 4),
        "class": item.region,
        "area": round(1 - background.area, 6),
        "border": round(1 - background.border, 4),
        "parts": sum(region.parts for region in report.masks[item.case][1:]),
        "reasons": [{"kind": reason.kind, "text": reason.text} for reason in item.suspicions],
        "mask": str(case.mask),
    }


def _csv_row(report: AuditReport, rank: int, item: RankedMask) -> list[object]:
    row = _json_row(report, rank, item) | {"reason": item.reason}
    return ["" if row[name] is None else row[name] for name in _HEADINGS]


def _write_contact_sheet(report: AuditReport, folder: Path) -> None:
    from guidino_cli.plots.contact_sheet import Tile, contact_sheet

    def tile(rank: int, item: RankedMask) -> Tile:
        case = report.cases[item.case]
        value = "" if isnan(item.agreement) else f", agreement {item.agreement:.2f}"
        mark = item.suspicions[0].label if item.suspicions else ""
        return Tile(read_image(case.image)[0], read_truth(case)[0], item.case, f"{rank}. {case.split}{value}", mark)

    tiles = [tile(*item) for item in report.worst(_TILES)]
    heading = f"{report.manifest.name}: {len(tiles)} of {pluralize(len(report.ranking), 'mask')}, worst first"
    note = f"agreement with features of {report.backbone_name}" if report.backbone else "compared with each other only"
    figure = contact_sheet(tiles, heading=f"{heading}\n{note}", classes=report.manifest.classes)
    write_atomically(folder / "contact_sheet.png", lambda temporary: figure.savefig(temporary))
