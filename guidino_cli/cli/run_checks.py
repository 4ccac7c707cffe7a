"""Checks of run folders before a command imports torch."""

from collections.abc import Sequence
from pathlib import Path


def check_runs(paths: Sequence[Path], overrides: Sequence[str] | None = None) -> None:
    """Answer a mistyped run or setting at once, before the seconds that importing torch takes."""
    from guidino_cli.engine.runs.settings import resolve_run_config

    for path in paths:
        resolve_run_config(path, overrides or ())


def check_unlocked(out: Path | None) -> None:
    """Refuse a run folder that another process writes to, likewise at once."""
    if out is not None:
        from guidino_cli.engine.run_folders import require_unlocked_run_folder

        require_unlocked_run_folder(out)
