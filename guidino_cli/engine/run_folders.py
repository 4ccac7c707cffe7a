"""What the folders of all runs have in common: none is written over unasked, and each says in a file what made it."""

import json
from pathlib import Path
from typing import Any

from guidino_cli.errors import ConfigError, DataError


def require_empty(folder: Path, *, overwrite: bool) -> None:
    """`ConfigError` if a folder holds something and may not be overwritten."""
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        ways = "go on with --resume, start anew with --overwrite, or choose another -o"
        raise ConfigError(f"{folder}: is not empty; {ways}")


def read_facts(path: Path, *, version: int, way: str) -> dict[str, Any]:
    """What a run was made with.

    Args:
        path: JSON file.
        version: Its format.
        way: What helps if it is damaged.

    Raises:
        DataError: Damaged, or of another format.
    """
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = facts["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); the run is damaged, {way}") from error
    if found != version:
        raise DataError(f"{path}: written in format {found}, this guidino reads format {version}")
    return facts
