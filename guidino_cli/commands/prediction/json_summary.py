"""The summary of `predict --json`."""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from guidino_cli.commands.json_output import print_json
from guidino_cli.commands.prediction.records import PredictionLog
from guidino_cli.commands.prediction.review import REVIEW_FILES

SCHEMA = 1


def print_prediction_json(
    records: PredictionLog, out: Path, classes: Sequence[str], *, total: int, noun: str, meaning: str
) -> None:
    """Print the counts of a call, what failed and why, and where the records are.

    Args:
        records: Of this call.
        out: Folder of the masks.
        classes: Names, the background first.
        total: Number of images or volumes of this call.
        noun: "image" or "volume".
        meaning: Of the values of the masks, in words.
    """
    counts = records.counts
    review = out / REVIEW_FILES[0]
    print_json(
        {
            "out": str(out),
            "holds": f"{noun}s",
            "classes": list(classes),
            "mask_values": meaning,
            "total": total,
            "made": counts.made,
            "failed": counts.failed,
            "skipped": counts.skipped,
            "failures": _failures(records.failed_path),
            "records": str(records.lines_path),
            "review": str(review) if review.is_file() else None,
        },
        schema=SCHEMA,
    )


def _failures(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):
            record = json.loads(line)
            found.append({"image": record["image"], "message": record["message"]})
    return found
