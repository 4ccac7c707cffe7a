"""Checks of run folders before a command imports torch."""

from collections.abc import Sequence
from pathlib import Path


def check_runs(paths: Sequence[Path], overrides: Sequence[str] | None = None) -> None:
    """Answer a mistyped run or setting at once, before the seconds that importing torch takes."""
    from guidino_cli.engine.runs.settings import resolve_run_config

    for path in paths:
        resolve_run_config(path, overrides or ())
