"""Origin of the masks of a report, and its date."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from guidino_cli.evaluation.names import PREDICT_SUMMARY


@dataclass(frozen=True)
class Provenance:
    """Origin of a report, besides the command line.

    Attributes:
        predictions: Folder, file or table of the predictions, as typed.
        truth: Where the true masks come from, one phrase.
        runs: Records of the runs that made the predictions; empty if `guidino predict` did not write them.
        created: Time in ISO 8601 with the offset from UTC, to the second.
    """

    predictions: str
    truth: str
    runs: Sequence[Any]
    created: str

    def lines(self) -> list[str]:
        """One line per fact, for pages."""
        runs = [f"run: {', '.join(map(_describe_run, self.runs))}"] if self.runs else []
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


def _read_runs(summary: Path) -> list[Any]:
    """Records of the runs by `guidino predict`; none if other programs made the masks."""
    try:
        content = json.loads(summary.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    runs = content.get("runs") if isinstance(content, dict) else None
    return runs if isinstance(runs, list) else []


def _describe_run(run: Any) -> str:
    """Path of a run and the first digits of the SHA-256 of its weights."""
    if not isinstance(run, dict) or "run" not in run:
        return str(run)
    return f"{run['run']} (weights {str(run['weights'])[:12]})" if run.get("weights") else str(run["run"])
