"""Where the masks of a report come from, and when it was made."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from guidino_cli.evaluation.names import PREDICT_SUMMARY


@dataclass(frozen=True)
class Provenance:
    """Origin of a report, besides the command line.

    Attributes:
        predictions: Folder, file or table of the predictions, as typed.
        truth: Where the true masks come from, one phrase.
        runs: Runs that made the predictions; empty if `guidino predict` did not write them.
        created: Time in ISO 8601 with the offset from UTC, to the second.
    """

    predictions: str
    truth: str
    runs: Sequence[str]
    created: str

    def lines(self) -> list[str]:
        """One line per fact, for pages."""
        runs = [f"run: {', '.join(self.runs)}"] if self.runs else []
        when = self.created[:16].replace("T", " ")
        return [f"predictions: {self.predictions}", *runs, f"truth: {self.truth}", f"made: {when}"]


def find_provenance(predictions: Path, truth: str) -> Provenance:
    """Provenance of a report that is made now.

    Args:
        predictions: Folder, file or table of the predictions.
        truth: Where the true masks come from, one phrase.
    """
    created = datetime.now().astimezone().isoformat(timespec="seconds")
    return Provenance(str(predictions), truth, _read_runs(predictions / PREDICT_SUMMARY), created)


def _read_runs(summary: Path) -> list[str]:
    """Runs that `guidino predict` recorded; none if there is no such record, which other programs do not write."""
    try:
        content = json.loads(summary.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    runs = content.get("runs") if isinstance(content, dict) else None
    return [str(run) for run in runs] if isinstance(runs, list) else []
