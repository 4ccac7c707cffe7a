"""Run folders of training and pretraining: the check for a new one, and the JSON file that says what made it."""

import json
from pathlib import Path
from typing import Any

from guidino_cli.errors import DataError
from guidino_cli.outputs import require_output_folder


def require_new_run_folder(folder: Path, *, overwrite: bool, recognised: bool | None = None) -> None:
    """Require a folder for a new run; see `require_output_folder`."""
    hint = "resume with --resume, start again with --overwrite"
    require_output_folder(folder, overwrite=overwrite, recognised=recognised, hint=hint)


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
