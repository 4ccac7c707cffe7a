"""The summary of `prepare --json`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guidino_cli.commands.json_output import print_json
from guidino_cli.preparation.checks import Finding
from guidino_cli.preparation.report import DatasetSummary, class_shares, count_by_split
from guidino_cli.preparation.volumes.report import VolumeSummary

SCHEMA = 1


def print_summary_json(
    summary: DatasetSummary,
    *,
    layout: str,
    out: Path | None,
    left_out: Sequence[Finding],
    next_step: str | None,
) -> None:
    """Print what was found, and what was written.

    Args:
        summary: Summary of the prepared cases.
        layout: Name of the layout.
        out: Folder that was written; None for none.
        left_out: Findings about the cases that are not among them.
        next_step: What can be typed next; None if nothing was written.
    """
    volumes = summary if isinstance(summary, VolumeSummary) else None
    shares = [float(share) for share in class_shares(summary)]
    folds = {case.fold for case in summary.cases} - {None}
    print_json(
        {
            "name": summary.name,
            "layout": layout,
            "layout_evidence": summary.layout,
            "holds": "images" if volumes is None else "volumes",
            "cases": len(summary.cases),
            "splits": count_by_split(summary.cases),
            "split_rule": summary.split_rule,
            "folds": len(folds),
            "classes": [
                {"index": index, "name": name, "share": share}
                for index, (name, share) in enumerate(zip(summary.classes, shares, strict=True))
            ],
            "mask_rule": summary.mask_rule,
            "channels": None if volumes is None else list(volumes.channels),
            "spacing_rule": None if volumes is None else volumes.spacing_rule,
            **_sizes(summary),
            "repeated_pictures": [list(group) for group in summary.duplicates],
            "suspicious_masks": [
                {"case": item.case, "kind": item.kind, "text": item.text} for item in summary.suspicions
            ],
            "warnings": list(summary.warnings),
            "notes": list(summary.notes),
            "left_out": [{"case": finding.case, "text": finding.text} for finding in left_out],
            "out": None if out is None else str(out),
            "next": next_step,
        },
        schema=SCHEMA,
    )


def _sizes(summary: DatasetSummary) -> dict[str, Any]:
    """Smallest and largest size by the number of their pixels or voxels: (height, width), or (z, y, x) as stored."""
    if isinstance(summary, VolumeSummary):
        sizes = [tuple(facts.shape) for facts in summary.facts.values()]
    else:
        sizes = [tuple(case.size_hw) for case in summary.cases]
    ordered = sorted(sizes, key=math.prod)
    return {"smallest": list(map(int, ordered[0])), "largest": list(map(int, ordered[-1]))}
