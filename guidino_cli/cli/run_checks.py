"""Checks of run folders before a command imports torch."""

from collections.abc import Sequence
from pathlib import Path


def check_runs(paths: Sequence[Path], overrides: Sequence[str] | None = None) -> None:
    """Answer a mistyped run or setting at once, before the seconds that importing torch takes."""
    from guidino_cli.engine.runs.settings import resolve_run_config

    for path in paths:
        resolve_run_config(path, overrides or ())


def find_hub_runs(runs: Sequence[Path], *, offline: bool) -> list[Path]:
    """Folders of runs, those of the hub in its cache; nothing is imported for others."""
    if not any(str(run).startswith("hf:") for run in runs):
        return list(runs)
    from guidino_cli.engine.runs.hub import find_runs

    return find_runs(runs, offline=offline)


def check_unlocked(out: Path | None) -> None:
    """Refuse a run folder that another process writes to, likewise at once."""
    if out is not None:
        from guidino_cli.engine.run_folders import require_unlocked_run_folder

        require_unlocked_run_folder(out)
