"""`guidino dicom`: list the DICOM series of a folder, and why some are no volumes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidino_cli.commands.text_tables import print_wrapped
from guidino_cli.data.volumes.dicom.series import SERIES_HEADINGS, DicomFolder, Series, find_series, series_row
from guidino_cli.errors import DataError, to_one_line
from guidino_cli.progress import pluralize

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = ("key", "modality", "description", "size", "spacing in mm")


def run(folder: Path, *, allow_single: bool, as_json: bool) -> None:
    """Print the series of a folder and those below it; nothing that is printed names a patient.

    Raises:
        DataError: There is no such folder, or it holds no DICOM files.
        DependencyError: pydicom is not installed.
    """
    found = find_series(folder, allow_single=allow_single)
    if not (found.series or found.segmentations or found.unreadable or found.others):
        raise DataError(f"{folder}: holds no DICOM files")
    if as_json:
        print(json.dumps(_to_json(found), indent=1, ensure_ascii=False))
        return
    usable = sum(item.problem is None for item in found.series)
    print_wrapped(f"{folder}: {len(found.series)} series, {usable} of them usable as a volume")
    if found.series:
        _print_series(found.series)
    _print_others(found)


def _print_series(series: tuple[Series, ...]) -> None:
    from rich.console import Console

    console = Console()
    console.print(_make_table(series))
    refused = [item for item in series if item.problem is not None]
    if refused:
        print("no volumes:")
    for item in refused:
        print_wrapped(to_one_line(f"{item.key}: {item.problem}"))


def _make_table(series: tuple[Series, ...]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in (*_SHOWN, "volume"):
        if heading == "description":
            table.add_column(heading, overflow="fold", min_width=12)
        else:
            table.add_column(heading, no_wrap=True)
    for item in series:
        cells = dict(zip(SERIES_HEADINGS, series_row(item), strict=True))
        texts = [Text(to_one_line(cells[heading])) for heading in _SHOWN]
        table.add_row(*texts, Text("yes") if item.problem is None else Text("no", style="bold red"))
    return table


def _print_others(found: DicomFolder) -> None:
    if found.segmentations:
        print_wrapped(f"{pluralize(len(found.segmentations), 'segmentation')} (SEG), such as {found.segmentations[0]}")
    if found.others:
        kinds = ", ".join(f"{count} {modality}" for modality, count in found.others)
        print_wrapped(to_one_line(f"objects that are no images: {kinds}"))
    if found.unreadable:
        path, reason = found.unreadable[0]
        count = pluralize(len(found.unreadable), "file")
        print_wrapped(to_one_line(f"{count} cannot be read, such as {path}: {reason}"))


def _to_json(found: DicomFolder) -> dict[str, Any]:
    return {
        "series": [
            {
                "key": item.key,
                "patient": item.patient,
                "modality": item.modality,
                "description": item.description,
                "split": dict(item.split),
                "size": item.size,
                "spacing_mm": item.spacing_mm,
                "files": len(item.files),
                "folder": str(item.folder),
                "problem": item.problem,
            }
            for item in found.series
        ],
        "segmentations": [str(path) for path in found.segmentations],
        "others": dict(found.others),
        "unreadable": {str(path): reason for path, reason in found.unreadable},
    }
